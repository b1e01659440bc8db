"""The journal: damaged and doubled lines, other writers, full disks."""

import json
import subprocess
import sys

import pytest

from fdrn_adapter.evaluation.journal import Journal
from fdrn_adapter.evaluation.reports.naming import check_names
from fdrn_adapter.output_folders import FolderInUseError, only_writer

CONFIG = {"format": "x", "models": {"m": [1]}}


def sample(index=0, iou=0.5, model="m"):
    record = {"id": f"s{index}", "ious": [iou], "clicks": [[1, 2, True]], "ms": [3.0],
              "encode_ms": 4.0}
    return {"dataset": "d", "protocol": "noc", "index": index, "kind": "sample", "model": model,
            "records": [record], "seconds": 1.0, "peak_memory_mb": 2.0}


def write(folder, *lines: bytes):
    head = json.dumps({"kind": "config", "config": CONFIG}).encode()
    (folder / "journal.jsonl").write_bytes(b"\n".join([head, *lines]) + b"\n")


def dumped(entry) -> bytes:
    return json.dumps(entry).encode()


def broken(**changes):
    entry = sample()
    entry.update(changes)
    return dumped(entry)


@pytest.mark.parametrize("line", [
    b"", b"   ", b"5", b"{}", b"null", b'{"kind": "sample"}', b'{"kind": "sam', b"\xff\xfe\x00",
    b'{"kind": 3}', b"[" * 10_000, broken(index=-1), broken(index=True), broken(index="0"),
    broken(records=[]), broken(records=[{}]), broken(seconds=None), broken(dataset=None),
    broken(seconds=float("nan")), broken(kind="other"), broken(kind="skipped"),
    broken(records=[{"id": "s", "ious": [1], "clicks": [[1, 2, True]], "ms": [1, 2]}]),
    dumped({"kind": "speed", "runs": 5}),
])
def test_damaged_lines_are_named_and_left_out(line, tmp_path, caplog):
    write(tmp_path, dumped(sample(0)), line, dumped(sample(1)))
    journal = Journal(tmp_path, CONFIG, resume=True)
    assert [e["index"] for e in journal.entries] == [0, 1]
    assert "line 3 (" in caplog.text and "run anew" in caplog.text
    journal.add(sample(2))
    journal.close()
    assert [e["index"] for e in Journal(tmp_path, CONFIG, resume=True).entries] == [0, 1, 2]


def test_a_byte_order_mark_is_no_damage(tmp_path, caplog):
    write(tmp_path, b"\xef\xbb\xbf" + dumped(sample(0)))
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(Journal(tmp_path, CONFIG, resume=True).entries) == 1 and not caplog.records


def test_the_first_line_about_a_sample_counts(tmp_path, caplog):
    """Two benchmarks on one folder used to count samples twice."""
    skipped = {"kind": "skipped", "dataset": "d", "protocol": "noc", "index": 5,
               "bad": [{"id": "x", "reason": "y"}]}
    lines = [sample(0, 0.5), sample(0, 0.9), sample(0, 0.7, "other"), skipped, skipped]
    write(tmp_path, *map(dumped, lines))
    journal = Journal(tmp_path, CONFIG, resume=True)
    assert [(e["kind"], e.get("model")) for e in journal.entries] == [
        ("sample", "m"), ("sample", "other"), ("skipped", None)]
    assert journal.entries[0]["records"][0]["ious"] == [0.5]
    assert caplog.text.count("said before") == 2


@pytest.mark.parametrize("head", [b"", b"5", b'{"config": 3}', b'{"kind": "x"}', b"\xff"])
def test_a_first_line_that_is_none_is_no_journal(head, tmp_path):
    (tmp_path / "journal.jsonl").write_bytes(head + b"\n" + dumped(sample()) + b"\n")
    with pytest.raises(ValueError, match="is not a journal"):
        Journal(tmp_path, CONFIG, resume=True)


def test_a_full_disk_says_how_to_go_on(tmp_path, monkeypatch):
    journal = Journal(tmp_path, CONFIG, resume=False)
    journal.add(sample(0))

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, line):
            self.file.write(line[:10])
            raise OSError(28, "No space left on device")

        def __getattr__(self, name):
            return getattr(self.file, name)

    journal._file = Full(journal._file)
    with pytest.raises(OSError, match="No space left.*journal.jsonl; make room.*--resume"):
        journal.add(sample(1))
    assert len(journal.entries) == 1
    journal.close()
    assert [e["index"] for e in Journal(tmp_path, CONFIG, resume=True).entries] == [0]


def test_one_writer_at_a_time(tmp_path):
    program = (
        "import sys; from fdrn_adapter.output_folders import only_writer\n"
        "with only_writer(sys.argv[1], 'x'): print('in')"
    )

    def other():
        return subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True,
                              text=True)

    with only_writer(tmp_path, "the results of a benchmark"):
        with pytest.raises(FolderInUseError, match="writes results to|Another process writes"):
            with only_writer(tmp_path, "results"):
                pass
        assert "FolderInUseError" in other().stderr
    assert other().stdout == "in\n"


def test_names_that_become_one_file():
    check_names(["a b", "a_b", "ab"], ["x"])
    for first, second in (("a b", "a-b"), ("a/b", "a b"), ("A", "a")):
        with pytest.raises(ValueError, match="files of the same name"):
            check_names([first, second], [])
        with pytest.raises(ValueError, match="data sets"):
            check_names([], [first, second])
    with pytest.raises(ValueError, match="300 bytes"):
        check_names(["x" * 300], [])
