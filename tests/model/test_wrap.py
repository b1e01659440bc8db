"""wrap, unwrap, and being a drop-in."""

import copy
import pickle

import pytest
import torch
from support.networks import build_host, make_input, make_points
from torch import nn

import fdrn_adapter
from fdrn_adapter.grafts.injection import injections

pytestmark = pytest.mark.usefixtures("ritm")
POINTS = make_points([[30, 40, 0]], [[10, 80, 1]])


@torch.no_grad()
def logits(net, x=None):
    return net(make_input() if x is None else x, POINTS)["instances"]


def snapshot(net):
    return (
        {k: v.clone() for k, v in net.state_dict().items()},
        {k: m.training for k, m in net.named_modules()},
        {k: (p.requires_grad, dict(p.__dict__)) for k, p in net.named_parameters()},
        {k: list(m._forward_hooks) for k, m in net.named_modules()},
    )


def same(a, b):
    return (
        a[0].keys() == b[0].keys() and all(torch.equal(a[0][k], b[0][k]) for k in a[0])
        and a[1:] == b[1:]
    )


def test_wrapping_never_changes_the_host():
    host = build_host("18s")
    host.feature_extractor.layer1.train()  # a mixed mode must survive too
    host.feature_extractor.conv1.weight.requires_grad_(False)
    output, before = logits(host), snapshot(host)  # this order: the forward moves layer1
    model = fdrn_adapter.wrap(host)
    model.train()
    model(make_input(batch=2), POINTS.repeat(2, 1, 1))["instances"].sum().backward()
    assert same(snapshot(host), before)
    assert all(p.grad is None for p in host.parameters())
    assert torch.equal(logits(host), output)


@pytest.mark.parametrize("init", ["identity", "paper"])
@pytest.mark.parametrize("duplicate", [True, False])
def test_unwrap_gives_the_host_back(init, duplicate):
    host = build_host("18s")
    host.feature_extractor.layer1.train()
    mine = host.feature_extractor.stage3[2].register_forward_hook(lambda m, a, o: None)
    before = snapshot(host)
    output = logits(host)
    before_bn = snapshot(host)  # the forward above moved layer1's statistics
    model = fdrn_adapter.wrap(host, init=init, copy=duplicate)
    assert (model.host is host) is not duplicate
    assert not duplicate or not injections(host)
    model.train().eval()
    back = fdrn_adapter.unwrap(model)
    assert (back is host) is not duplicate
    assert not injections(back)
    after = snapshot(back)
    assert after[0].keys() == before[0].keys() and list(after[0]) == list(before[0])
    assert same(after, before_bn)
    mine.remove()
    back.feature_extractor.layer1.eval()
    host.feature_extractor.layer1.eval()
    assert torch.equal(logits(back), logits(host))
    assert output.shape == logits(back).shape
    with pytest.raises(ValueError, match="unwrapped before"):
        fdrn_adapter.unwrap(model)
    assert fdrn_adapter.wrap(back) is not None  # can be wrapped again


def test_learning_rate_factors_survive_the_copy():
    host = build_host("18")
    assert host.feature_extractor.conv1.weight.lr_mult == 0.1
    model = fdrn_adapter.wrap(host)
    assert model.host.feature_extractor.conv1.weight.lr_mult == 0.1
    # F1 starts from the host's weights here, so it is as little in need of learning.
    assert model.encoder_source == "host"
    assert model.image_encoder.backbone.conv1.weight.lr_mult == 0.1
    assert not hasattr(model.image_encoder.key_view.weight, "lr_mult")


def test_encoder_weights_come_from_where_repr_says(tmp_path):
    small, large = build_host("18s"), build_host("18")
    model = fdrn_adapter.wrap(large)
    assert torch.equal(model.image_encoder.backbone.conv2.weight,
                       large.feature_extractor.conv2.weight)
    assert "encoder_weights='host'" in repr(model)
    assert "encoder_weights='random'" in repr(fdrn_adapter.wrap(small))
    # An HRNet-18s has a part of the HRNet-18's layout, and must not be filled in halves.
    assert "encoder_weights='random'" in repr(fdrn_adapter.wrap(large, encoder="hrnet18s"))
    path = tmp_path / "imagenet.pth"
    weights = {f"model.{k}": v for k, v in large.feature_extractor.state_dict().items()}
    torch.save(weights, path)
    model = fdrn_adapter.wrap(small, encoder_weights=path)
    assert "encoder_weights='imagenet.pth'" in repr(model)
    assert torch.equal(model.image_encoder.backbone.conv2.weight,
                       large.feature_extractor.conv2.weight)
    del weights["model.layer1.3.conv1.weight"]
    torch.save(weights, path)
    with pytest.raises(ValueError, match=r"missing \['layer1.3.conv1.weight'\]"):
        fdrn_adapter.wrap(small, encoder_weights=path)


def test_drop_in_attributes_and_modes():
    host = build_host("18s")
    model = fdrn_adapter.wrap(host)
    assert model.with_prev_mask and model.with_aux_output
    assert model.coord_feature_ch == host.coord_feature_ch
    assert model.normalization is not None
    assert not model.training and not model.image_encoder.training
    model.train()
    assert model.training and model.host.training and model.sfi.training
    x, points = make_input(batch=2), POINTS.repeat(2, 1, 1)
    assert set(model(x, points)) == set(host(x, points)) == {"instances", "instances_aux"}
    model.eval()
    with pytest.raises(AttributeError):
        _ = model.no_such_attribute
    double = fdrn_adapter.wrap(host).double()
    assert logits(double, make_input().double()).dtype == torch.float64


def test_module_order_and_default_blocks():
    assert fdrn_adapter.wrap(build_host("18s"))._settings["b_low_tilde"] == 2
    settings = fdrn_adapter.wrap(build_host("18"), encoder="hrnet18s")._settings
    assert (settings["b_low"], settings["b_high"]) == (2, 2)
    assert (settings["b_low_tilde"], settings["b_high_tilde"]) == (2, 2)
    model = fdrn_adapter.wrap(build_host("18s"), b_low=0, b_high=3)
    assert [model._settings[k] for k in ("b_low", "b_high", "b_low_tilde", "b_high_tilde")] == [
        0, 3, 0, 2,
    ]
    assert len(model.image_encoder.backbone.stage3) == 4
    assert len(fdrn_adapter.wrap(build_host("18s"), b_low=0, b_high=1)
               .image_encoder.backbone.stage3) == 2


@pytest.mark.parametrize("init", [
    pytest.param("identity", marks=pytest.mark.slow), "paper",
])
def test_deep_copy_and_pickle_are_independent(init):
    model = fdrn_adapter.wrap(build_host("tiny"), init=init)
    expected = logits(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(twin), expected)
        with torch.no_grad():
            twin.sfi.block.shortcut[0].weight.mul_(3) if init == "paper" else (
                twin.sfi.block.shortcut.weight.mul_(3)
            )
        assert not torch.equal(logits(twin), expected)  # its hooks use its own modules
        assert torch.equal(logits(model), expected)


@pytest.mark.parametrize(("options", "message"), [
    ({"b_low": 4}, r"b_low=4 is out of range: the image encoder 'hrnet18' has blocks 0\.\.3"),
    ({"b_high": -1}, r"blocks 0\.\.3"),
    ({"encoder": "hrnet18s", "b_high": 3}, r"'hrnet18s' has blocks 0\.\.2"),
    ({"b_high_tilde": 3}, r"the host's stage 3 has blocks 0\.\.2"),
    ({"b_low": 2, "b_high": 1}, r"b_high=1 < b_low=2.*Choose b_high in 2\.\.3"),
    ({"b_low_tilde": 2, "b_high_tilde": 0}, r"b_high_tilde=0 < b_low_tilde=2"),
    ({"b_low": 1.0}, r"b_low=1.0 is out of range"),
    ({"encoder": "resnet50"}, r"Unknown encoder 'resnet50'.*'segformer_b1', or 'timm:"),
    ({"encoder": 3}, r"encoder should be a name"),
    ({"encoder": "segformer_b0"}, r"ritm_annotation has no module .*ClickSEG"),
    ({"init": "zero"}, r"init should be one of \('identity', 'paper'\)"),
    ({"encoder_max_side": 0}, r"longest side in pixels"),
    ({"use_low": False, "use_high": False, "encoder_weights": "x"}, "without an encoder"),
])
def test_wrong_options_name_the_remedy(options, message):
    with pytest.raises(ValueError, match=message):
        fdrn_adapter.wrap(build_host("18s"), **options)


@pytest.mark.parametrize(("network", "message"), [
    (nn.Conv2d(3, 3, 1), r"looked for the parts of a RITM or FocalClick HRNetModel.*stage3"),
    ("hrnet18", r"takes a stock network \(torch.nn.Module\), got str"),
    ({"state_dict": {}}, r"load_is_model"),
])
def test_not_a_host(network, message):
    with pytest.raises(fdrn_adapter.UnsupportedHostError, match=message):
        fdrn_adapter.wrap(network)


def test_deeplab_host_is_refused(ritm):
    from ritm_annotation.model.is_deeplab_model import DeeplabModel

    net = DeeplabModel(backbone="resnet34", deeplab_ch=16, aspp_dropout=0.2, use_rgb_conv=False)
    with pytest.raises(fdrn_adapter.UnsupportedHostError, match="feature_extractor.stage3"):
        fdrn_adapter.wrap(net)


def test_wrapping_twice():
    host = build_host("18s")
    model = fdrn_adapter.wrap(host, copy=False)
    for again in (model, host):
        with pytest.raises(ValueError, match=r"wrapped already.*unwrap"):
            fdrn_adapter.wrap(again)
    with pytest.raises(ValueError, match="got HRNetModel"):
        fdrn_adapter.unwrap(host)
    with pytest.raises(RuntimeError, match=r"Call model\(image, points\)"):
        logits(model.host)


@pytest.mark.parametrize(("x", "points", "message"), [
    (make_input()[:, :3], POINTS, r"\(B, 4, H, W\), got \(1, 3, .*torch.cat\(\[image, prev_mask"),
    (make_input()[0], POINTS, r"\(B, 4, H, W\)"),
    ((make_input() * 255).byte(), POINTS, r"image.float\(\) / 255"),
    (make_input().double(), POINTS, r"dtype torch.float64, the model torch.float32"),
    (make_input(), POINTS[:, :, :2], r"\(B, 2N, 3\)"),
    (make_input(), POINTS[:, :1], r"\(B, 2N, 3\)"),
    (make_input(batch=2), POINTS, r"2 images but points for 1"),
])
def test_wrong_inputs_name_the_remedy(x, points, message):
    model = fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s")
    with pytest.raises(ValueError, match=message):
        model(x, points)
