"""An engine of somebody else's: one file, one row, and nothing of ours is touched."""

import sys

import numpy as np
import pytest
import torch
from support.networks import build_host
from support.stock import CLICKS, picture, taught_host

import fdrn_adapter
from fdrn_adapter import engines
from fdrn_adapter.engines import Engine

pytestmark = pytest.mark.usefixtures("ritm")

FILE = '''
import copy

import torch

from fdrn_adapter.engines import Engine

COMPILED, RUNS = [], []


def compile_graph(graph, inputs, names, outputs, dynamic=None):
    """Graphs in double precision, counted."""
    graph = copy.deepcopy(graph).double()
    COMPILED.append(tuple(names))

    def run(*tensors):
        RUNS.append(len(tensors))
        with torch.inference_mode():
            made = graph(*(t.double() for t in tensors))
        return tuple(t.float() for t in (made if isinstance(made, tuple) else (made,)))

    return run


ROW = Engine("double", compile_graph, packages=("torch", "numpy"))
'''


@pytest.fixture
def announced(tmp_path, monkeypatch):
    """The file above as an installed package that announces its row."""
    (tmp_path / "double_engine.py").write_text(FILE)
    info = tmp_path / "double_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: double-engine\nVersion: 1.0")
    (info / "entry_points.txt").write_text(
        "[fdrn_adapter.engines]\ndouble = double_engine:ROW\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    if "double" in engines.ENGINES:
        engines.ENGINES.remove("double")
    sys.modules.pop("double_engine", None)


def probabilities(model, engine, flip=False):
    session = fdrn_adapter.InteractiveSession(model, engine=engine, crop=96, flip=flip)
    session.set_image(picture())
    for row, col, positive in CLICKS[:3]:
        session.add_click(col, row, positive)
        yield session.prob


@pytest.mark.parametrize("kind", ["fdrn", "stock"])
def test_an_announced_engine_runs_sessions(announced, kind, monkeypatch):
    assert engines.names()[-1] == engines.available()[-1] == "double"
    module = sys.modules["double_engine"]
    model = taught_host("tiny")
    if kind == "fdrn":
        model = fdrn_adapter.wrap(model, encoder="hrnet18s").eval()
    want = list(probabilities(model, "eager"))
    monkeypatch.setenv(engines.VARIABLE, "double")  # what "auto" means is the user's word
    got = list(probabilities(model, "auto"))
    assert len(module.RUNS) > 6
    assert ("image",) in module.COMPILED and any("pre" in names for names in module.COMPILED)
    assert np.abs(want[0] - want[-1]).max() > 0.01
    assert max(np.abs(a - b).max() for a, b in zip(want, got, strict=True)) < 1e-4


def off_by_a_hundredth(graph, inputs, names, outputs, dynamic=None):
    """Something else than the network, which the check of what is compiled sees."""
    def run(*tensors):
        with torch.no_grad():
            made = graph(*tensors)
        made = made if isinstance(made, tuple) else (made,)
        return tuple(t * 1.01 for t in made)

    return run


BROKEN = Engine("broken", off_by_a_hundredth)


@pytest.fixture
def broken():
    yield engines.ENGINES.add(BROKEN)
    engines.ENGINES.remove("broken")


def test_an_engine_is_added_by_a_program_and_checked(broken):
    model = fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s").eval()
    with pytest.raises(RuntimeError, match="F1 in broken gives another"):
        next(probabilities(model, "broken"))
    with pytest.raises(RuntimeError, match=r"engine='broken' gives logits that are off by"):
        next(probabilities(taught_host("tiny"), "broken"))
    with pytest.raises(ValueError, match="has a row 'broken' already"):
        engines.ENGINES.add(BROKEN)
    assert engines.resolve("broken", build_host("tiny").double()) == "eager"


def test_what_is_missing_is_named():
    packages = ("torch", "no_such_package")
    engines.ENGINES.add(Engine("lacking", off_by_a_hundredth, packages))
    try:
        assert "lacking" in engines.names() and "lacking" not in engines.available()
        with pytest.raises(engines.EngineNotInstalledError, match="pip install no_such_package"):
            engines.accelerate(build_host("tiny"), "lacking")
    finally:
        engines.ENGINES.remove("lacking")
