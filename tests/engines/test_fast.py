"""Precision "fast" on a CPU. No processor with bf16 is asked for: bfloat16 autocast runs anywhere,
and whether it is faster is said by the tests."""

import logging

import numpy as np
import pytest
import torch
from support.stock import CLICKS, picture, taught_host

import fdrn_adapter
from fdrn_adapter import engines
from fdrn_adapter.engines import accelerated, fast, in_torch
from fdrn_adapter.engines.mask_blocks import MaskTermInBlocks
from fdrn_adapter.engines.mask_term import MaskTerm, Pieces

pytestmark = pytest.mark.usefixtures("ritm")


@pytest.fixture(autouse=True)
def bf16(monkeypatch, tmp_path):
    """A processor that says it has bfloat16, and gains by it."""
    monkeypatch.setattr(in_torch, "lower_precision", lambda: "bf16")
    monkeypatch.setattr(fast, "speedup", lambda exact, lower: (exact(), lower(), 1.8)[-1])
    monkeypatch.setattr(fast, "SAME_MASK", 0.8)  # of a host that was taught one mask for a moment
    monkeypatch.setenv("FDRN_CACHE", str(tmp_path))
    accelerated._runners.clear()  # of the host, which is shared


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


# -- what fails below float32 ------------------------------------------------------------------


@pytest.mark.parametrize(("reach", "size"), [(5, (96, 64)), (5, (192, 192)), (3, (64, 96))])
def test_a_mask_term_in_blocks_is_the_same(reach, size):
    chance = torch.Generator().manual_seed(0)
    pieces = Pieces()
    pieces.add(*torch.randn(2, 16, generator=chance).double(), 0.2)
    assert pieces.knots
    side = 2 * reach + 1
    kernels = torch.randn(3, 3, 64, 16, side, side, generator=chance).double()
    term = MaskTerm(kernels, pieces, size, reach)
    mask = torch.rand(2, 1, *size, generator=chance)
    want = term(mask)
    assert torch.allclose(MaskTermInBlocks(term)(mask), want, atol=1e-5 * want.abs().max())


def test_fewer_bits_have_no_large_kernels_on_few_channels(stock, monkeypatch):
    """Of which bfloat16 gave NaN on a processor with AMX: none is at hand in tests."""
    compile_lower, taken = in_torch.compile_lower, []

    def double(graph, *args):
        taken.extend(module for module in graph.modules() if "Mask" in type(module).__name__)
        return compile_lower(graph, *args)

    monkeypatch.setattr(in_torch, "compile_lower", double)
    probabilities(stock, "fast")
    assert {type(module) for module in taken} == {MaskTermInBlocks}
    assert all(module.middle.shape[1] % 16 == 0 for module in taken)


def damaged(monkeypatch, part: str, spoil) -> None:
    """A double of `compile_lower`, whose graphs of a part `spoil` what they give.

    Stands for a processor whose kernels fail there, of which none is at hand.
    """
    compile_lower = in_torch.compile_lower

    def double(graph, *args):
        run = compile_lower(graph, *args)
        if type(graph).__name__ != part:
            return run
        return lambda *tensors: tuple(map(spoil, run(*tensors)))

    monkeypatch.setattr(in_torch, "compile_lower", double)


def nan(x):
    return x * float("nan")


@pytest.mark.parametrize(("spoil", "why"), [
    (nan, "float32: bf16 gives NaN"), (torch.neg, "float32: masks in bf16 have IoU 0."),
])
def test_clicks_that_fail_leave_float32(stock, monkeypatch, caplog, spoil, why):
    """With a double for a processor whose kernels fail in clicks, see `damaged`."""
    damaged(monkeypatch, "Click", spoil)
    caplog.set_level(logging.INFO)
    exact, quick = probabilities(stock, "exact"), probabilities(stock, "fast")
    assert all((a == b).all() for a, b in zip(exact, quick, strict=True))
    assert chosen(stock)["a click"].startswith(why) and why in caplog.text


@pytest.mark.parametrize(("kind", "part"), [("stock", "Click"), ("fdrn", "Encode")])
def test_nan_that_the_trial_did_not_meet_ends_fewer_bits(
    model, stock, monkeypatch, caplog, kind, part
):
    """With a double for a processor whose kernels give NaN now and then, see `damaged`."""
    model, now = {"fdrn": model, "stock": stock}[kind], [False]
    damaged(monkeypatch, part, lambda x: nan(x) if now[0] else x)
    exact, quick = probabilities(model, "exact"), probabilities(model, "fast")
    assert any((a != b).any() for a, b in zip(exact, quick, strict=True))
    now[0] = True
    quick = probabilities(model, "fast")
    assert all((a == b).all() for a, b in zip(exact, quick, strict=True))
    assert set(chosen(model).values()) == {"float32: bf16 gave NaN"}
    assert "in bf16 gives NaN; it goes on in float32" in caplog.text


@pytest.mark.slow
def test_what_is_faster_is_measured_once_and_kept(model, monkeypatch):
    quick = probabilities(model, "fast")

    def again(exact, lower):
        raise AssertionError("measured again")

    monkeypatch.setattr(fast, "speedup", again)
    accelerated._runners.clear()
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
    logits = [2.0 * mask - 1 for mask in (a, b, half)]
    assert fast.agreement([a, b, b], logits) == pytest.approx((1 + 1 + 0.5) / 3)
    assert fast.agreement([a], logits[1:2]) == 0
    for value in (float("nan"), float("inf")):
        assert np.isnan(fast.agreement([a, b], [logits[0], logits[1] * value]))


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
