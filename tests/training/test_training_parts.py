"""Gradients and freezing."""

import pytest
import torch
from support.networks import build_host, make_input, make_points

import fdrn_adapter

pytestmark = pytest.mark.usefixtures("ritm")
POINTS = torch.cat([make_points([[30, 40, 0], [20, 20, 1]], [[10, 80, 2], [50, 50, 3]])] * 2)


def backward(model):
    model.train()
    features = model.encode_image(make_input(120, 160, batch=2)[:, :3])
    with model.recycling(features, [(0, 119, 0, 159), (10, 100, 20, 120)]):
        out = model(make_input(64, 64, batch=2, seed=1), POINTS)
    (out["instances"].square().mean() + out["instances_aux"].square().mean()).backward()


PARTS = (
    "image_encoder.backbone.conv1", "image_encoder.backbone.stage3.2", "image_encoder.key_view",
    "image_encoder.query_view", "sfi.conv", "sfi.block.residual", "sfi.block.shortcut",
    "tfi.block.residual", "tfi.block.shortcut", "host.maps_transform.current",
    "host.maps_transform.history", "host.maps_transform.fuse", "host.feature_extractor.stage4",
)


def gradient_of(model, part):
    grads = [
        p.grad for name, p in model.named_parameters()
        if name.startswith(part + ".") and p.grad is not None
    ]
    return sum(g.abs().sum().item() for g in grads)


def test_gradients_reach_every_part_with_paper_init():
    model = fdrn_adapter.wrap(build_host("tiny"), init="paper", encoder="hrnet18s")
    backward(model)
    for part in PARTS:
        assert gradient_of(model, part) > 0, part
    unreached = [n for n, p in model.named_parameters() if p.grad is None]
    # The mid-resolution fuse layers of F1's last module feed nothing (no f_mid, Table 5).
    assert all("image_encoder.backbone.stage3.2.fuse_layers.1" in n for n in unreached), unreached


def test_identity_init_opens_up_after_one_step():
    model = fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    backward(model)
    # What starts from zero learns at once and lets the gradient through from the next step on.
    assert gradient_of(model, "sfi.block.shortcut") and gradient_of(model, "tfi.block.residual.2")
    assert not gradient_of(model, "image_encoder.key_view")
    optimizer.step()
    optimizer.zero_grad()
    backward(model)
    assert all(gradient_of(model, p) > 0 for p in PARTS)


def test_freeze_encoder_freezes_weights_and_statistics():
    model = fdrn_adapter.wrap(
        build_host("tiny"), init="paper", encoder="hrnet18s", freeze_encoder=True
    )
    frozen = {k: v.clone() for k, v in model.image_encoder.backbone.state_dict().items()}
    view = model.image_encoder.key_view.weight.clone()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        backward(model)
        optimizer.step()
    now = model.image_encoder.backbone.state_dict()
    assert all(torch.equal(now[k], v) for k, v in frozen.items())
    assert not torch.equal(model.image_encoder.key_view.weight, view)
    thawed = fdrn_adapter.wrap(build_host("tiny"), init="paper", encoder="hrnet18s")
    before = thawed.image_encoder.backbone.bn1.running_mean.clone()
    backward(thawed)
    assert not torch.equal(thawed.image_encoder.backbone.bn1.running_mean, before)
