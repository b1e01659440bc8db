"""Groups of files that are replaced whole or not at all."""

import pytest

from fdrn_adapter.output_folders import changed, checksum, together


def write(folder, text, names=("a.txt", "sub/b.txt", "list.json")):
    with together(folder, "list.json") as aside:
        for name in names:
            (aside / name).parent.mkdir(exist_ok=True)
            (aside / name).write_text(text + name)


def content(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_all_files_are_replaced_and_others_stay(tmp_path):
    (tmp_path / "other.txt").write_text("mine")
    write(tmp_path, "one ")
    write(tmp_path, "two ", ("a.txt", "list.json"))
    assert content(tmp_path) == {
        "other.txt": "mine", "a.txt": "two a.txt", "sub/b.txt": "one sub/b.txt",
        "list.json": "two list.json",
    }


def test_after_an_error_the_folder_is_as_it_was(tmp_path):
    write(tmp_path, "one ")
    before = content(tmp_path)
    with pytest.raises(KeyboardInterrupt), together(tmp_path, "list.json") as aside:
        (aside / "a.txt").write_text("half")
        raise KeyboardInterrupt
    assert content(tmp_path) == before


def test_what_is_seen_in_between_has_no_manifest_or_is_whole(tmp_path, monkeypatch):
    """A look after every file that takes its place."""
    from pathlib import Path

    write(tmp_path, "one ")
    seen, replace = [], Path.replace

    def watched(self, target):
        seen.append(content(tmp_path))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    write(tmp_path, "two ")
    assert len(seen) == 3 and all("list.json" not in files for files in seen)
    assert content(tmp_path)["list.json"] == "two list.json"


def test_what_a_killed_process_left_goes_with_the_next(tmp_path):
    with pytest.raises(RuntimeError), together(tmp_path, "list.json") as aside:
        left = tmp_path / aside.name
        raise RuntimeError
    left.mkdir()
    (left / "c.txt").write_text("left")
    write(tmp_path, "one ")
    assert set(content(tmp_path)) == {"a.txt", "sub/b.txt", "list.json"}


def test_changed_files_are_named(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    sums = {name: checksum(tmp_path / name) for name in "abc"}
    assert changed(tmp_path, sums) == []
    (tmp_path / "b").write_text("B")
    (tmp_path / "c").unlink()
    assert changed(tmp_path, sums) == ["b", "c"]
