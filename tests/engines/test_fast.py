"""Precision "fast" on a CPU. No processor with bf16 is asked for: bfloat16 autocast runs anywhere,
and whether it is faster is said by the tests."""

import logging

import numpy as np
import pytest
import torch
from support.stock import CLICKS, picture, taught_host

import fdrn_adapter
from fdrn_adapter import engines
from fdrn_adapter.engines import fast, in_torch

pytestmark = pytest.mark.usefixtures("ritm")


@pytest.fixture(autouse=True)
def bf16(monkeypatch, tmp_path):
    """A processor that says it has bfloat16, and gains by it."""
    monkeypatch.setattr(in_torch, "lower_precision", lambda: "bf16")
    monkeypatch.setattr(fast, "speedup", lambda exact, lower: (exact(), lower(), 1.8)[-1])
    monkeypatch.setattr(fast, "SAME_MASK", 0.8)  # of a host that was taught one mask for a moment
    monkeypatch.setenv("FDRN_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def stock():
    return taught_host("tiny").eval()


@pytest.fixture
def model(stock):
    return fdrn_adapter.wrap(stock, encoder="hrnet18s").eval()


def probabilities(model, precision, engine="torch"):
    session = fdrn_adapter.InteractiveSession(model, engine, 96, precision=precision)
    session.set_image(picture())
    found = []
    for row, col, positive in CLICKS[:4]:
        session.add_click(col, row, positive)
        found.append(session.prob)
    return found


def chosen(model):
    return engines.runner_of(model, "torch", precision="fast").chosen


@pytest.mark.parametrize("kind", ["fdrn", "stock"])
def test_fewer_bits_make_the_same_masks(model, stock, kind):
    model = {"fdrn": model, "stock": stock}[kind]
    exact, quick = probabilities(model, "exact"), probabilities(model, "fast")
    off = max(np.abs(a - b).max() for a, b in zip(exact, quick, strict=True))
    assert 1e-5 < off < 0.3
    ious = [((a > 0.5) & (b > 0.5)).sum() / ((a > 0.5) | (b > 0.5)).sum()
            for a, b in zip(exact, quick, strict=True)]
    assert np.mean(ious) > 0.9
    parts = {"a click", "F1"} if kind == "fdrn" else {"a click"}
    assert set(chosen(model)) == parts
    assert chosen(model)["a click"].startswith("bf16: 1.80 times as fast, IoU 0.9")


@pytest.mark.parametrize(("name", "value", "why"), [
    ("speedup", lambda exact, lower: 0.8, "float32: bf16 takes 1/0.80"),
    ("SAME_MASK", 1.01, "float32: masks in bf16 have IoU"),
])
def test_otherwise_float32_and_the_reason(model, monkeypatch, caplog, name, value, why):
    monkeypatch.setattr(fast, name, value)
    caplog.set_level(logging.INFO)
    exact, quick = probabilities(model, "exact"), probabilities(model, "fast")
    assert all((a == b).all() for a, b in zip(exact, quick, strict=True))
    assert all(said.startswith(why) for said in chosen(model).values())
    assert why in caplog.text


@pytest.mark.slow
def test_what_is_faster_is_measured_once_and_kept(model, monkeypatch):
    quick = probabilities(model, "fast")

    def again(exact, lower):
        raise AssertionError("measured again")

    monkeypatch.setattr(fast, "speedup", again)
    engines.accelerated._runners.clear()
    for a, b in zip(quick, probabilities(model, "fast"), strict=True):
        assert (a == b).all()


def test_a_processor_without_it_computes_exactly_and_says_so(model, monkeypatch, caplog):
    monkeypatch.setattr(in_torch, "lower_precision", lambda: "")
    monkeypatch.setenv("FDRN_PRECISION", "fast")
    exact, quick = probabilities(model, "exact"), probabilities(model, None)
    assert all((a == b).all() for a, b in zip(exact, quick, strict=True))
    assert "Precision 'fast' is 'exact' in engine 'torch' on this processor" in caplog.text


def test_clicks_of_the_trial_are_on_and_beside_the_first_mask():
    square = torch.full((1, 1, 40, 60), -3.0)
    square[..., 10:30, 20:45] = 3.0
    seen = []

    def run(image, points):
        seen.append((image[:, 3:].clone(), points))
        return square

    points = torch.tensor([[[20.0, 30.0, 0.0], [-1.0, -1.0, -1.0]]])
    clicks, masks = fast.trial(run, torch.rand(1, 4, 40, 60), points)
    assert len(clicks) == len(masks) == fast.STARTS * (1 + fast.MORE)
    assert not seen[0][0].any() and torch.equal(seen[1][0], torch.sigmoid(square))
    for _, given in seen:
        positive, negative = given[0].chunk(2)
        on = [square[0, 0, int(r), int(c)] > 0 for r, c, n in positive if n >= 1]
        off = [square[0, 0, int(r), int(c)] < 0 for r, c, n in negative if n >= 0]
        assert all(on) and all(off)
        order = sorted(int(n) for n in given[0, :, 2] if n >= 0)
        assert order == list(range(len(order))) and len(order) >= 1
    assert torch.equal(seen[0][1], points)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(
        clicks, fast.trial(run, torch.rand(1, 4, 40, 60), points)[0], strict=True
    ))


def test_agreement():
    a = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    b = a.clone()
    b[..., :2] = True
    half = b.clone()
    half[..., 2:, :] = False
    assert fast.agreement([a, b, b], [a, b, half]) == pytest.approx((1 + 1 + 0.5) / 3)
    assert fast.agreement([a], [b]) == 0


def test_speedup_counts_the_second_against_the_first(monkeypatch):
    monkeypatch.undo()
    now = [0.0]
    monkeypatch.setattr(fast.time, "perf_counter", lambda: now[0])

    def takes(seconds):
        def run():
            now[0] += seconds
        return run

    assert fast.speedup(takes(0.3), takes(0.1)) == pytest.approx(3)


def test_an_unknown_precision_is_refused(model):
    with pytest.raises(ValueError, match="allowed: exact, fast"):
        fdrn_adapter.InteractiveSession(model, "torch", 96, precision="half")


def test_openvino_says_what_the_processor_has():
    openvino = pytest.importorskip("openvino")
    from fdrn_adapter.engines import in_openvino

    has = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert in_openvino.lower_precision() == ("bf16" if "BF16" in has else "")


@pytest.mark.slow
def test_openvino_compiles_for_it(model, monkeypatch):
    """On a processor without bfloat16, OpenVINO takes the hint and computes in float32."""
    pytest.importorskip("openvino")
    from fdrn_adapter.engines import in_openvino

    monkeypatch.setattr(in_openvino, "lower_precision", lambda: "bf16")
    exact, quick = (probabilities(model, p, "openvino") for p in ("exact", "fast"))
    assert engines.runner_of(model, "openvino", precision="fast").chosen["a click"][:4] == "bf16"
    assert max(np.abs(a - b).max() for a, b in zip(exact, quick, strict=True)) < 0.3
