"""Wrapping FocalClick networks changes nothing until training does; real checkout only."""

import numpy as np
import pytest
import torch
from support.focalclick import (
    ALL,
    build,
    clickseg,
    focal_predictor_class,
    record,
    run_clicks,
    taught,
    zoom_in,
)
from support.networks import make_input, make_points
from support.stock import picture

import fdrn_adapter
from fdrn_adapter.session.predictor import recycling_predictor_for


@pytest.fixture(autouse=True, scope="module")
def checkout():
    with clickseg() as code_base:
        yield code_base


@pytest.mark.parametrize(("kind", "pipeline"), ALL)
def test_coarse_and_refined_logits_equal_over_ten_clicks(kind, pipeline):
    host = taught(kind, pipeline)
    model = fdrn_adapter.wrap(host)
    stock_seen, our_seen = record(host), record(model)
    encodings = []
    model.image_encoder.register_forward_pre_hook(lambda m, a: encodings.append(a[0].shape))
    stock = focal_predictor_class()(host, "cpu", zoom_in=zoom_in(), infer_size=64)
    probs, rois = run_clicks(stock, picture())
    assert len(set(rois)) > 3, "neither crop moved: the test shows nothing"
    assert all(p.std() > 0.01 for p in probs)

    ours = recycling_predictor_for(
        focal_predictor_class(), model, "cpu", zoom_in=zoom_in(), infer_size=64
    )
    got, got_rois = run_clicks(ours, picture())
    assert got_rois == rois
    assert np.abs(got - probs).max() < 1e-5
    for stage in ("coarse", "refined"):
        assert len(our_seen[stage]) == len(stock_seen[stage]) == 10
        pairs = zip(our_seen[stage], stock_seen[stage], strict=True)
        assert max((a - b).abs().max().item() for a, b in pairs) < 1e-5
    assert encodings == [(1, 3, 160, 240)]  # F1 ran once, on the image, for all ten clicks


@pytest.mark.parametrize(("kind", "pipeline"), [("18s", "s1"), ("b0", "s2")])
def test_every_output_is_the_hosts(kind, pipeline):
    host = build(kind, pipeline)
    model = fdrn_adapter.wrap(host)
    x = make_input(70, 90, batch=2)
    points = make_points([[30, 40, 0], [35, 60, 2]], [[10, 80, 1]]).repeat(2, 1, 1)
    with torch.no_grad():
        want, got = host(x, points), model(x, points)
    assert got.keys() == want.keys()
    assert got["click_map"].shape == (2, 2, 70, 90)
    assert torch.equal(got["click_map"], want["click_map"]) and want["click_map"].sum() > 0
    assert all((got[k] - want[k]).abs().max() < 1e-5 for k in want)


@pytest.mark.parametrize("kind", ["18s", "b0"])
@pytest.mark.parametrize("options", [
    {"use_low": False}, {"use_high": False}, {"use_low": False, "use_high": False},
    {"decouple_clicks": False}, {"b_low": 0, "b_high": 1}, {"b_low_tilde": 0, "b_high_tilde": 1},
    {"b_low": 1, "b_high": 0, "b_low_tilde": 1, "b_high_tilde": 0, "encoder": "segformer_b1"},
    {"encoder": "hrnet18s"}, {"encoder": "segformer_b0"}, {"freeze_encoder": True},
])
def test_every_ablation_starts_as_the_host(kind, options):
    if kind == "18s" and options.get("b_high_tilde") == 0:
        options = {**options, "b_low_tilde": 0}  # one stage: the order of blocks counts
    host = build(kind, "s1")
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


@pytest.mark.parametrize("kind", ["18s", "b0"])
def test_training_the_adapter_parts_changes_the_output(kind):
    host = build(kind)
    model = fdrn_adapter.wrap(host)
    x, points = make_input(), make_points([[30, 40, 0]], [[10, 80, 1]])
    with torch.no_grad():
        before = host(x, points)["instances"]
    adapter = [
        p for name, p in model.named_parameters()
        if not name.startswith("host.") or ".fuse." in name
    ]
    optimizer = torch.optim.SGD(adapter, lr=0.1)
    model(x, points)["instances"].square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        assert (model(x, points)["instances"] - before).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["18s", "b0"])
def test_paper_init_is_not_identical(kind):
    host = build(kind)
    model = fdrn_adapter.wrap(host, init="paper")
    x, points = make_input(), make_points([[30, 40, 0]])
    with torch.no_grad():
        difference = (model(x, points)["instances"] - host(x, points)["instances"]).abs().max()
    assert difference > 1e-3
