"""Engines: the same logits, from private copies, shared and dropped as the weights change."""

import importlib.util

import numpy as np
import pytest
import torch
from support import focalclick
from support.networks import build_host, enliven, make_input, make_points
from support.stock import CLICKS, check_threads_equal_serial, picture, taught_host

import fdrn_adapter
from fdrn_adapter import engines
from fdrn_adapter.engines import graphs, rewrites
from fdrn_adapter.engines.ocr import OCRHead

pytestmark = pytest.mark.usefixtures("ritm")

CROP = (64, 96)
# Disks that overlap (also of one sign and of both), at corners, across the border and beyond it.
POINTS = make_points(
    [[20.3, 30.2, 0], [1, 2, 2], [63, 95, 3], [24, 33.5, 4], [-20, 40, 6]],
    [[30, 60, 1], [-3, 70, 5], [22, 31, 7]],
)
ROI = [(5, 80, 10, 140)]


def slow(*values):
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


# Tracing and compiling take seconds for each network: by default one engine of the two runs one
# test (below), and everything else is for `pytest -m slow`.
@pytest.fixture(params=["torch", *slow("onnxruntime", "openvino")])
def engine(request):
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


def lively():
    """A host with logits of a trained network's size, so that clicks are felt in them."""
    host = build_host("tiny")
    with torch.no_grad():
        host.feature_extractor.cls_head.weight.mul_(100)
    return host


def fdrn(init="paper", **options):
    """An FDRN whose clicks, history and previous mask are felt."""
    model = fdrn_adapter.wrap(lively(), encoder="hrnet18s", init=init, **options)
    with torch.no_grad():
        for module in (model.sfi, model.tfi):
            if module is not None:
                enliven(module)
        if options.get("decouple_clicks", True):
            model.host.maps_transform.fuse.weight.normal_(0, 0.1)
    return model.eval()


def crop_input(seed=0, mask=0.5):
    x = make_input(*CROP, seed=seed)
    x[:, 3:] = torch.rand(x[:, 3:].shape, generator=torch.Generator().manual_seed(seed)) ** 2
    x[:, 3:, :20] = mask
    return x


@torch.no_grad()
def logits(net, x, points=POINTS):
    if not getattr(net, "is_fdrn", False):
        return net(x, points)["instances"]
    features = net.encode_image(make_input(100, 150)[:, :3])
    with net.recycling(features, ROI * len(x)):
        return net(x, points)["instances"]


def test_same_logits_in_onnxruntime():
    pytest.importorskip("onnxruntime")
    check_same_logits("onnxruntime", "paper")


@pytest.mark.parametrize(
    "kind", ["paper", "stock", *slow("identity", "no decoupling", "no low", "context")]
)
def test_same_logits_in_every_engine(engine, kind):
    check_same_logits(engine, kind)


def check_same_logits(engine, kind):
    options = {"no decoupling": {"decouple_clicks": False}, "no low": {"use_low": False},
               "context": {"context_channels": 8}}
    model = lively() if kind == "stock" else \
        fdrn("identity" if kind == "identity" else "paper", **options.get(kind, {}))
    before = {k: v.clone() for k, v in model.state_dict().items()}
    net = engines.accelerate(model, engine)
    assert net is not model and net.engine == engine
    first = make_points([[20.3, 30.2, 0]])
    wanted = [logits(model, crop_input(), first), logits(model, crop_input(), POINTS),
              logits(model, crop_input(mask=0.0), POINTS), logits(model, crop_input(1), POINTS)]
    got = [logits(net, crop_input(), first), logits(net, crop_input(), POINTS),
           logits(net, crop_input(mask=0.0), POINTS), logits(net, crop_input(1), POINTS)]
    for a, b in zip(wanted, wanted[1:], strict=False):
        assert (a - b).abs().max() > 1e-2  # clicks, mask and image are felt
    for a, b in zip(wanted, got, strict=True):
        assert (a - b).abs().max() < 1e-4
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_encoding_in_an_engine(engine):
    model = fdrn()
    net = engines.accelerate(model, engine)
    for size in ((100, 150), (64, 37)):
        image = make_input(*size)[:, :3]
        with torch.no_grad():
            want, got = model.encode_image(image), net.encode_image(image)
        assert got.weights == want.weights and got.grids == want.grids
        for name, m in want.maps.items():
            assert m.std() > 1e-3 and (m - got.maps[name]).abs().max() < 1e-4 * m.abs().max()
    with pytest.raises(ValueError, match="un-normalised RGB"):
        net.encode_image(image * 255)


def test_batches_and_any_number_of_sizes(engine, monkeypatch):
    from fdrn_adapter.engines import runner

    monkeypatch.setattr(runner, "MAX_FIXED", 1)
    for model in (fdrn(), lively()):
        net = engines.accelerate(model, engine)
        for size in (CROP, (66, 50)):
            x = torch.cat([make_input(*size, seed=s) for s in (0, 1)])
            points = torch.cat([POINTS, make_points([[9, 9, 0]] * 5, [[30, 12, 1]] * 3)])
            want, got = logits(model, x, points), logits(net, x, points)
            assert (want[0] - want[1]).abs().max() > 1e-2
            assert (want - got).abs().max() < 1e-4
        names = {key[1] for key in engines.runner_of(model, engine)._compiled if key[0] == "click"}
        assert names == {2, "any"}


def test_a_change_of_weights_is_seen(engine):
    model = fdrn()
    net = engines.accelerate(model, engine)
    old = logits(net, crop_input())
    compiled = engines.runner_of(model, engine)
    assert engines.runner_of(model, engine) is compiled
    with torch.no_grad():
        model.host.feature_extractor.cls_head.weight.mul_(2)
    new = logits(net, crop_input())
    assert engines.runner_of(model, engine) is not compiled
    assert (old - new).abs().max() > 1e-2
    assert (logits(model, crop_input()) - new).abs().max() < 1e-4
    model.host.feature_extractor.cls_head.bias = torch.nn.Parameter(torch.ones(1) * 3)
    assert (logits(model, crop_input()) - logits(net, crop_input())).abs().max() < 1e-4


def test_a_change_of_the_image_encoders_weights_is_seen(engine):
    model = fdrn()
    net = engines.accelerate(model, engine)
    image = make_input(100, 150)[:, :3]
    old = net.encode_image(image)
    compiled = engines.runner_of(model, engine)
    with torch.no_grad():
        model.image_encoder.key_view.weight.mul_(2)
    assert engines.runner_of(model, engine) is compiled  # a click does not run F1
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match="other weights"):
        net.recycling(old, ROI).__enter__()
    new, want = net.encode_image(image), model.encode_image(image)
    assert engines.runner_of(model, engine) is not compiled
    for name, m in want.maps.items():
        assert (m - new.maps[name]).abs().max() < 1e-4 * m.abs().max()
    assert (old.maps["key"] - new.maps["key"]).abs().max() > 1e-2


def test_without_features_the_crop_is_encoded(engine):
    model = fdrn()
    net = engines.accelerate(model, engine)
    with torch.no_grad():
        want, got = (n(crop_input(), POINTS)["instances"] for n in (model, net))
    assert (want - got).abs().max() < 1e-4
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match="One|one roi"):
        features = net.encode_image(make_input(100, 150)[:, :3])
        with net.recycling(features, ROI * 2):
            net(crop_input(), POINTS)


def test_sessions_in_an_engine(engine):
    host = taught_host("tiny")
    model = fdrn_adapter.wrap(host, encoder="hrnet18s").eval()
    probs = {}
    for name in ("eager", engine):
        session = fdrn_adapter.InteractiveSession(model, engine=name, crop=96, flip=True)
        assert session.engine == name
        session.set_image(picture())
        probs[name] = []
        for row, col, positive in CLICKS[:4]:
            session.add_click(col, row, positive)
            probs[name].append(session.prob)
        session.undo()
        session.redo()
        assert np.array_equal(session.prob, probs[name][-1])
    assert np.abs(probs[engine][0] - probs[engine][-1]).max() > 0.01
    for a, b in zip(probs["eager"], probs[engine], strict=True):
        assert np.abs(a - b).max() < 1e-4


def test_sessions_in_threads_share_one_compiled_network(engine, monkeypatch):
    monkeypatch.setenv("FDRN_ENGINE", engine)
    model = fdrn_adapter.wrap(taught_host("tiny"), init="paper", encoder="hrnet18s").eval()
    check_threads_equal_serial(model, num_images=2, clicks=CLICKS[:3])
    kinds = [key[0] for key in engines.runner_of(model, engine)._compiled]
    assert sorted(kinds) == ["click", "encode"]


def test_names_and_what_is_missing(monkeypatch):
    assert engines.names() == ("eager", "torch", "onnxruntime", "openvino", "cuda")
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" else real(name)
    )
    monkeypatch.delenv("FDRN_ENGINE")
    assert "openvino" not in engines.available()
    on_cpu = [name for name in engines.available() if name != "cuda"]  # that is for GPUs
    assert engines.resolve("auto") == on_cpu[-1]
    with pytest.raises(engines.EngineNotInstalledError, match=r"'fdrn_adapter\[openvino\]'"):
        engines.resolve("openvino")
    with pytest.raises(ValueError, match="'tensorrt'; allowed: auto, eager, torch"):
        engines.resolve("tensorrt")
    assert engines.resolve("auto", fdrn().double()) == "eager"
    monkeypatch.setenv("FDRN_ENGINE", "torch")
    session = fdrn_adapter.InteractiveSession(fdrn())
    assert session.engine == "torch"
    assert engines.accelerate(model := fdrn(), "eager") is model
    with pytest.raises(ValueError, match=r"model.eval\(\) first"):
        engines.accelerate(fdrn().train(), "torch")


@torch.no_grad()
def test_the_head_is_the_stock_head_in_double_precision():
    backbone = build_host("tiny").feature_extractor.double()
    branches = [
        torch.randn(2, c, *(-(-side // 2**i) for side in (18, 25)), dtype=torch.float64)
        for i, c in enumerate(backbone.stage4[-1].get_num_inchannels())
    ]
    merged = backbone.aggregate_hrnet_features(list(branches))
    aux = backbone.aux_head(merged)
    feats = backbone.conv3x3_ocr(merged)
    feats = backbone.ocr_distri_head(feats, backbone.ocr_gather_head(feats, aux))
    want = backbone.cls_head(feats)
    assert want.std() > 1e-3
    for size in ((18, 25), None):
        head = OCRHead(backbone, size).double()
        got = head(list(branches))
        # The weights of the head were rounded to float32 on their way.
        assert (want - got[0]).abs().max() < 1e-5 and (aux - got[1]).abs().max() < 1e-5


def test_separable_interpolation_is_interpolation():
    x = torch.randn(1, 3, 5, 7, dtype=torch.float64)
    for align_corners in (False, True):
        options = dict(mode="bilinear", align_corners=align_corners)
        want = torch.nn.functional.interpolate(x, (13, 20), **options)
        with rewrites.SeparableInterpolation():
            got = torch.nn.functional.interpolate(x, size=(13, 20), **options)
        assert not torch.equal(want, got) and (want - got).abs().max() < 1e-6


@torch.no_grad()
def test_norms_fold_into_the_convolution_before_them_only():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.BatchNorm2d(4)
    )
    enliven(net).eval()
    x = torch.randn(1, 3, 8, 8)
    want = net(x)
    assert rewrites.fold_batch_norms(net, lambda: net(x)) == 1
    assert isinstance(net[1], torch.nn.Identity) and isinstance(net[3], torch.nn.BatchNorm2d)
    assert (want - net(x)).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["b0", "18s"])
@pytest.mark.parametrize("pipeline", ["s1", "s2"])
def test_focalclick_networks(engine, kind, pipeline):
    with focalclick.clickseg():
        host = focalclick.build(kind, pipeline)
        extractor = host.feature_extractor
        with torch.no_grad():
            last = extractor.decode_head.linear_pred if kind == "b0" else extractor.cls_head
            last.weight.mul_(100)
        encoder = "segformer_b0" if kind == "b0" else "hrnet18s"
        model = fdrn_adapter.wrap(host, encoder=encoder, init="paper").eval()
        net = engines.accelerate(model, engine)
        x = crop_input()
        x = torch.cat([x, x], dim=2)[..., :96][:, :, :96]  # FocalClick's crops are squares
        other = make_points([[50, 50, 0]])
        for size in ((100, 150), (70, 121)):  # one encoder for images of any size
            image = make_input(*size)[:, :3]
            roi = [(5, 60, 10, 110)]
            results = []
            for n in (model, net):
                with torch.no_grad():
                    features = n.encode_image(image)
                    with n.recycling(features, roi):
                        results.append([n(x, p) for p in (POINTS, other)])
            want, got = results
            assert (want[0]["instances"] - want[1]["instances"]).abs().max() > 1e-3
            for a, b in zip(want, got, strict=True):
                # An engine's features are those of the host behind its refinement's first layer.
                features = graphs.projection_of(host)(a["feature"])
                for x1, x2 in ((a["instances"], b["instances"]), (features, b["feature"])):
                    scale = max(1.0, x1.abs().max().item())
                    assert x1.std() > 1e-3 and (x1 - x2).abs().max() < 1e-5 * scale
        boxes = torch.tensor([[0.0, 10, 12, 70, 81.5]])
        logits = want[0]["instances"]
        with torch.no_grad():
            a, *others = (
                n.refine(x[:, :3], other, feature, logits, boxes)
                for n, feature in (
                    (model, want[0]["feature"]), (net, want[0]["feature"]), (net, got[0]["feature"])
                )
            )
        for b in others:  # the host's features and the engine's own
            scale = max(1.0, a["instances_refined"].abs().max().item())
            assert (a["instances_refined"] - b["instances_refined"]).abs().max() < 1e-5 * scale
            assert torch.equal(a["instances_coarse"], b["instances_coarse"])


@pytest.mark.parametrize("pipeline", ["s1", "s2"])
def test_segformers_of_any_batch_and_size(engine, pipeline, monkeypatch):
    from fdrn_adapter.engines import runner

    monkeypatch.setattr(runner, "MAX_FIXED", 0)
    with focalclick.clickseg():
        host = focalclick.build("b0", pipeline)
        with torch.no_grad():
            host.feature_extractor.decode_head.linear_pred.weight.mul_(100)
        model = fdrn_adapter.wrap(host, encoder="segformer_b0", init="paper").eval()
        net = engines.accelerate(model, engine)
        features = model.encode_image(make_input(100, 150)[:, :3])
        for size in (96, 128):
            x = torch.cat([make_input(size, size, seed=s) for s in (0, 1)])
            points = torch.cat([POINTS, make_points([[50, 50, 0]] * 5, [[30, 12, 1]] * 3)])
            with torch.no_grad(), model.recycling(features, [(5, 60, 10, 110), (0, 99, 0, 149)]):
                want, got = (n(x, points)["instances"] for n in (model, net))
            assert (want[0] - want[1]).abs().max() > 1e-2
            assert (want - got).abs().max() < 1e-5 * want.abs().max()
        assert [key[1] for key in engines.runner_of(model, engine)._compiled
                if key[0] == "click"] == ["any"]


def test_encoders_with_activations_inside_their_norms_and_with_padding():
    """timm's EfficientNets; the graph is traced with a size that needs no padding."""
    pytest.importorskip("timm")
    model = fdrn_adapter.wrap(lively(), encoder="timm:tf_efficientnet_lite0", init="paper").eval()
    enliven(model.image_encoder)
    net = engines.accelerate(model, "torch")
    for size in ((64, 96), (50, 71)):
        image = make_input(*size)[:, :3]
        with torch.no_grad():
            want, got = model.encode_image(image), net.encode_image(image)
        for name, m in want.maps.items():
            assert m.std() > 0
            assert (m - got.maps[name]).abs().max() < 1e-4 * m.abs().max()
