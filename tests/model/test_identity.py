"""Wrapping with init="identity" changes nothing until training does."""

import numpy as np
import pytest
import torch
from support.networks import build_host, make_input, make_points
from support.stock import (
    CLICKS,
    base_predictor,
    picture,
    record_logits,
    run_clicks,
    taught_host,
    zoom_in,
)

import fdrn_adapter
from fdrn_adapter.session.predictor import recycling_predictor_for

pytestmark = pytest.mark.usefixtures("ritm")


# All four ways on the light host, the two extremes on the heavy ones: they take their time, and
# by default one of them will do.
@pytest.mark.parametrize(("size", "flip", "zoom"), [
    *(("18s", flip, zoom) for flip in (False, True) for zoom in (False, True)),
    *(pytest.param(size, both, both, marks=pytest.mark.slow)
      for size in ("18", "32") for both in (False, True)),
])
def test_logits_equal_over_ten_clicks(size, flip, zoom):
    host = taught_host(size, crop=64)
    model = fdrn_adapter.wrap(host)
    stock_logits, ours = record_logits(host), record_logits(model)
    image = picture() if zoom else picture()[::2, ::2]
    clicks = [(r // (2 - zoom), c // (2 - zoom), p) for r, c, p in CLICKS]

    def predictor(make):
        return make(zoom_in=zoom_in("ritm_annotation", crop=64) if zoom else None, with_flip=flip)

    stock = predictor(lambda **kw: base_predictor()(host, "cpu", **kw))
    probs, rois = run_clicks(stock, image, clicks)
    assert not zoom or len(set(rois)) > 1, "the zoom-in never moved: the test shows nothing"
    expected = list(stock_logits)

    for make in (
        lambda **kw: base_predictor()(model, "cpu", **kw),  # drop-in: F1 on each crop
        lambda **kw: recycling_predictor_for(base_predictor(), model, "cpu", **kw),
    ):
        ours.clear()
        got, got_rois = run_clicks(predictor(make), image, clicks)
        assert got_rois == rois
        assert np.abs(got - probs).max() < 1e-5
        assert len(ours) == len(expected)
        worst = max((a - b).abs().max().item() for a, b in zip(ours, expected, strict=True))
        assert worst < 1e-5


@pytest.mark.parametrize("size", ["18s", "18"])
def test_one_training_step_on_the_adapter_parts_changes_the_output(size):
    host = build_host(size)
    model = fdrn_adapter.wrap(host)
    x, points = make_input(), make_points([[30, 40, 0]], [[10, 80, 1]])
    with torch.no_grad():
        before = host(x, points)["instances"]
        assert (model(x, points)["instances"] - before).abs().max() < 1e-5
    adapter = [
        p for name, p in model.named_parameters()
        if not name.startswith("host.") or ".fuse." in name
    ]
    optimizer = torch.optim.SGD(adapter, lr=0.1)
    model(x, points)["instances"].square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        assert (model(x, points)["instances"] - before).abs().max() > 1e-4


def test_training_mode_is_identical_too():
    host = build_host("18s")
    model = fdrn_adapter.wrap(host.train())
    x, points = make_input(batch=2), make_points([[30, 40, 0]]).repeat(2, 1, 1)
    torch.manual_seed(1)  # OCR has a dropout
    expected = host(x, points)["instances"]
    torch.manual_seed(1)
    assert (model(x, points)["instances"] - expected).abs().max() < 1e-5


def test_paper_init_is_not_identical():
    host = build_host("18s")
    model = fdrn_adapter.wrap(host, init="paper")
    x, points = make_input(), make_points([[30, 40, 0]])
    with torch.no_grad():
        difference = (model(x, points)["instances"] - host(x, points)["instances"]).abs().max()
    assert difference > 1e-3


@pytest.mark.parametrize("options", [
    {"use_low": False}, {"use_high": False}, {"use_low": False, "use_high": False},
    {"decouple_clicks": False}, {"b_low": 0, "b_high": 1}, {"b_low_tilde": 0, "b_high_tilde": 1},
    {"encoder": "hrnet18s"}, {"freeze_encoder": True},
])
def test_every_ablation_starts_as_the_host(options):
    host = build_host("18s")
    model = fdrn_adapter.wrap(host, **options)
    x, points = make_input(), make_points([[30, 40, 0]], [[10, 80, 1]])
    with torch.no_grad():
        got = model(x, points)["instances"]
        features = model.encode_image(make_input(120, 140)[:, :3])
        with model.recycling(features, [[10, 110, 20, 130]]):
            again = model(x, points)["instances"]
        expected = host(x, points)["instances"]
    assert (got - expected).abs().max() < 1e-5
    assert (again - expected).abs().max() < 1e-5


@pytest.mark.parametrize("kwargs", [
    {"with_prev_mask": False}, {"use_disks": False, "norm_radius": 260}, {"conv_extend": True},
    {"with_aux_output": False}, {"ocr_width": 0, "with_aux_output": False},
    {"binary_prev_mask": True},
])
def test_other_stock_options_keep_identity(kwargs):
    host = build_host("tiny", **kwargs)
    model = fdrn_adapter.wrap(host, encoder="hrnet18s")
    channels = 4 if host.with_prev_mask else 3
    x = make_input()[:, :channels]
    points = make_points([[30, 40, 0], [12, 9, 2]], [[10, 80, 1]])
    with torch.no_grad():
        assert (model(x, points)["instances"] - host(x, points)["instances"]).abs().max() < 1e-5


def test_joint_rgb_conv_host_needs_decoupling_off():
    host = build_host("tiny", use_rgb_conv=True)
    with pytest.raises(ValueError, match="decouple_clicks=False"):
        fdrn_adapter.wrap(host)
    model = fdrn_adapter.wrap(host, decouple_clicks=False)
    x, points = make_input(), make_points([[30, 40, 0]])
    with torch.no_grad():
        assert (model(x, points)["instances"] - host(x, points)["instances"]).abs().max() < 1e-5
