"""Compiled graphs on disk: used again where all is the same, and only there."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch
from support.networks import build_host, enliven, make_points

import fdrn_adapter
from fdrn_adapter import cli, engines
from fdrn_adapter.engines import compile_cache, in_onnxruntime, in_openvino

ENGINES = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}
POINTS = make_points([[20, 30, 0]], [[30, 60, 1]])

pytestmark = pytest.mark.usefixtures("ritm")


@pytest.fixture(params=["onnxruntime", pytest.param("openvino", marks=pytest.mark.slow)])
def engine(request):
    pytest.importorskip(request.param)
    return request.param


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path / "kept"))
    return tmp_path / "kept"


def kept(key, load, make):
    return compile_cache.compiled(lambda: key, load, make)


def network(seed: int = 0):
    torch.manual_seed(seed)
    model = fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s", init="paper")
    enliven(model.sfi)
    with torch.no_grad():  # hosts here are alike whatever the seed
        model.host.feature_extractor.cls_head.weight.mul_(100 * (1 + seed))
        model.image_encoder.backbone.conv1.weight.mul_(1 + 0.1 * seed)
    return model.eval()


def click(model, engine: str) -> torch.Tensor:
    net = engines.accelerate(model, engine)
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 3, 96, 128, generator=generator)
    crop = torch.rand(1, 4, 64, 96, generator=generator)
    with net.recycling(net.encode_image(image), [(5, 80, 10, 120)]):
        return net(crop, POINTS)["instances"]


def count_compilations(monkeypatch, engine: str) -> list:
    calls, before = [], ENGINES[engine].to_onnx

    def counted(*args):
        calls.append(args)
        return before(*args)

    monkeypatch.setattr(ENGINES[engine], "to_onnx", counted)
    return calls


def test_a_second_start_compiles_nothing(engine, cache, monkeypatch):
    compilations = count_compilations(monkeypatch, engine)
    wanted = click(network(), engine)
    assert len(compilations) == 3  # F1, the image's part, the click
    assert len(compile_cache.files()) == 3
    assert torch.equal(click(network(), engine), wanted)  # another model object: as after a start
    assert len(compilations) == 3
    assert not torch.equal(click(network(seed=5), engine), wanted)  # other weights
    assert len(compilations) == 6


def test_damaged_content_is_as_good_as_none(cache):
    assert kept("k", bytes, lambda: (b"a", b"abc" * 9)) == b"a"
    file, whole = cache / "k.graph", (cache / "k.graph").read_bytes()
    assert kept("k", bytes, lambda: pytest.fail("made again")) == b"abc" * 9
    for content in (whole[:-1], whole[:40] + b"x" + whole[41:], b"", whole[:32]):
        file.write_bytes(content)
        assert kept("k", bytes, lambda: (b"b", b"abc" * 9)) == b"b"
        assert file.read_bytes() == whole


def test_kept_graphs_that_fail_their_check_go(cache):
    def build():
        made = kept("k", bytes, lambda: (b"right", b"right"))
        if made != b"right":
            raise RuntimeError("gives other logits")
        return made

    kept("k", bytes, lambda: (b"wrong", b"wrong"))
    assert compile_cache.checked(build) == b"right"
    assert kept("k", bytes, lambda: pytest.fail("made again")) == b"right"

    def broken():
        raise RuntimeError("of the network itself")

    with pytest.raises(RuntimeError, match="of the network itself"):
        compile_cache.checked(broken)


@pytest.mark.slow
def test_damaged_files_are_as_good_as_none(engine, cache, monkeypatch):
    wanted = click(network(), engine)
    for i, file in enumerate(compile_cache.files()):
        content = bytearray(file.path.read_bytes())
        content[len(content) // 2] ^= 4
        # A bit that fell; cut off; and bytes that fit their checksum and are no graph.
        junk = b"no graph" * 9
        file.path.write_bytes((
            bytes(content), bytes(content[: len(content) // 2]),
            hashlib.sha256(junk).digest() + junk,
        )[i])
    compilations = count_compilations(monkeypatch, engine)
    assert torch.equal(click(network(), engine), wanted)
    assert len(compilations) == 3
    assert torch.equal(click(network(), engine), wanted)
    assert len(compilations) == 3


@pytest.mark.slow
def test_a_graph_that_gives_something_else_is_compiled_anew(cache, monkeypatch, caplog):
    pytest.importorskip("onnxruntime")
    wanted = click(network(), "onnxruntime")
    of_one = {file.path.name: file.path.read_bytes() for file in compile_cache.files()}
    compile_cache.clear()
    click(network(seed=5), "onnxruntime")
    others = [file.path for file in compile_cache.files()]
    compile_cache.clear()
    # The graphs of seed 0 under the names of seed 5's, as if the key had left something out.
    for path, content in zip(sorted(others), [of_one[k] for k in sorted(of_one)], strict=True):
        path.write_bytes(content)
    with monkeypatch.context() as without:
        without.setenv(compile_cache.VARIABLE, "off")
        honest = click(network(seed=5), "onnxruntime")
    assert torch.equal(click(network(seed=5), "onnxruntime"), honest)
    assert not torch.equal(honest, wanted)


def test_the_key_covers_what_a_graph_depends_on():
    class Scale(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.by, self.parts = 2.0, {"a": [torch.ones(3)]}
            self.conv = torch.nn.Conv2d(1, 1, 1)
            self.register_buffer("shift", torch.zeros(1), persistent=False)

    torch.manual_seed(0)
    graph, x = Scale().eval(), torch.zeros(1, 1, 4, 4)

    def key(engine=("e", "1"), inputs=(x,), names=("x",), dynamic=None):
        return compile_cache.key_of(engine, graph, inputs, names, ["y"], dynamic)

    first = key()
    assert key() == first and len(first) == 64
    others = [
        key(engine=("e", "2")), key(inputs=(x[..., :2],)), key(inputs=(x.double(),)),
        key(names=("z",)), key(dynamic={"x": {2: "rows"}}),
    ]
    for change in (
        lambda: setattr(graph, "by", 3.0), lambda: graph.parts["a"][0].add_(1),
        lambda: graph.conv.weight.data.mul_(2), lambda: graph.shift.add_(1),
        lambda: setattr(graph.conv, "padding", (1, 1)), graph.train,
    ):
        change()
        others.append(key())
    assert len({first, *others}) == 1 + len(others)


def test_what_was_used_longest_ago_makes_room(cache, monkeypatch):
    monkeypatch.setattr(compile_cache, "MAX_BYTES", 300)
    for number in range(3):
        made = kept(f"k{number}", bytes, lambda n=number: (b"", bytes([n]) * 60))
        assert made == b""
    os.utime(cache / "k0.graph", (10, 10))
    os.utime(cache / "k1.graph", (5, 5))
    assert kept("k3", bytes, lambda: (b"", b"new" * 20)) == b""
    assert "k1" not in {file.path.stem for file in compile_cache.files()}
    assert kept("k3", bytes, lambda: pytest.fail("made again")) == b"new" * 20
    assert kept("empty", bytes, lambda: (b"made", b"")) == b"made"
    assert not (cache / "empty.graph").exists()


def test_off_and_a_folder_that_cannot_be_written(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(compile_cache.VARIABLE, "off")
    assert kept("k", bytes, lambda: (b"a", b"a")) == b"a"
    assert compile_cache.files() == [] and compile_cache.folder() is None
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv(compile_cache.VARIABLE, str(blocked))
    assert kept("k", bytes, lambda: (b"a", b"a")) == b"a"
    assert "not kept" in caplog.text


def test_fdrn_cache_lists_and_clears(cache, capsys):
    kept("0123", bytes, lambda: (b"", b"x" * 2**20))
    assert cli.main(["cache"]) == 0
    assert "1.0 MB" in capsys.readouterr().out
    assert cli.main(["cache", "--clear"]) == 0
    assert "1 graphs deleted" in capsys.readouterr().out
    assert compile_cache.files() == []


def test_processes_that_write_the_same_file(cache):
    code = (
        "import sys\nfrom fdrn_adapter.engines import compile_cache\n"
        "for n in range(40):\n"
        "    key, made = (lambda: 'k'), (lambda: (b'y' * 10**6, b'y' * 10**6))\n"
        "    got = compile_cache.compiled(key, bytes, made)\n"
        "    assert got == b'y' * 10**6\n"
        "    if n % 3 == int(sys.argv[1]): compile_cache.clear()\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(n)]) for n in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert not list(cache.glob("*.part"))
