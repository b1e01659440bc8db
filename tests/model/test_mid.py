"""f_mid, the last row of Table 5: read at stride 8, entering the host's branch of that stride."""

import pytest
import torch
from support import focalclick
from support.networks import build_host, make_input, make_points
from support.segformer_double import SegFormerModel
from support.stock import taught_host

import fdrn_adapter
from fdrn_adapter import engines, export
from fdrn_adapter.model.settings import Settings

pytestmark = pytest.mark.usefixtures("ritm")
POINTS = make_points([[30, 40, 0]], [[10, 80, 1]])
ROI = [[10, 110, 20, 130]]


def wrapped(host=None, **options):
    torch.manual_seed(0)
    host = build_host("tiny") if host is None else host
    return fdrn_adapter.wrap(host, **{"encoder": "hrnet18s", "use_mid": True, **options}).eval()


def segformer(pipeline="s2"):
    torch.manual_seed(0)
    return SegFormerModel(pipeline).eval()


@torch.no_grad()
def logits(model, features):
    with model.recycling(features, ROI):
        return model(make_input(), POINTS)["instances"]


@torch.no_grad()
def check_identity(host, **options):
    model = wrapped(host, **options)
    assert model.tfi_mid is not None
    wanted, crop = host(make_input(), POINTS)["instances"], model(make_input(), POINTS)["instances"]
    assert (crop - wanted).abs().max() < 1e-5
    features = model.encode_image(make_input(120, 140)[:, :3])
    assert (logits(model, features) - wanted).abs().max() < 1e-5
    bias = model.tfi_mid.block.residual[-1].bias
    bias.copy_(torch.linspace(-1, 1, len(bias)))  # a constant would vanish in a LayerNorm
    assert (logits(model, features) - wanted).abs().max() > 1e-3


@pytest.mark.parametrize("options", [
    {}, {"use_low": False}, {"use_low": False, "use_high": False}, {"b_mid": 0, "b_mid_tilde": 2},
    {"encoder": "hrnet18"}, {"norms": True, "shortcut_kernel": 1},
])
def test_it_starts_as_the_host(options):
    check_identity(build_host("tiny"), **options)


@pytest.mark.parametrize("pipeline", ["s1", "s2"])
def test_segformer_hosts(pipeline):
    check_identity(segformer(pipeline), encoder="segformer_b0")


def test_real_segformers():
    with focalclick.clickseg():
        for kind, encoder in (("b0", "segformer_b1"), ("18s", "segformer_b0"), ("b3", "hrnet18s")):
            check_identity(focalclick.build(kind), encoder=encoder)


@pytest.mark.parametrize(("encoder", "host", "channels"), [
    ("hrnet18s", "tiny", 36), ("segformer_b0", "segformer", 32),
    ("timm:tf_efficientnet_lite0", "tiny", 32),
])
@torch.no_grad()
def test_it_is_felt_where_it_enters_and_nothing_else_is_needed(encoder, host, channels):
    if encoder.startswith("timm"):
        pytest.importorskip("timm")
    host = segformer() if host == "segformer" else build_host(host)
    model = wrapped(host, encoder=encoder, init="paper", use_low=False, use_high=False)
    features = model.encode_image(make_input(112, 144)[:, :3])
    assert {name: m.shape for name, m in features.maps.items()} == {"mid": (1, channels, 14, 18)}
    before = logits(model, features)
    features.maps["mid"] = features.maps["mid"].flip(-1)
    features.alignments = type(features.alignments)()
    assert (logits(model, features) - before).abs().max() > 1e-5
    with pytest.raises(fdrn_adapter.FeatureMismatchError):
        wrapped(build_host("tiny"), init="paper", use_mid=False).check_features(features)


@torch.no_grad()
def test_the_aligned_map_is_where_the_crop_is():
    """A map that holds its own columns comes back as the columns of the host's cells."""
    model = wrapped(init="paper", use_low=False, use_high=False)
    features = model.encode_image(make_input(112, 144)[:, :3])
    columns = torch.arange(18.0) * 8  # cell j stands on pixel 8 j
    features.maps["mid"] = columns.expand_as(features.maps["mid"]).clone()
    (intake,) = model.intakes
    with model.recycling(features, [[0, 63, 32, 127]]) as recycling:
        got = recycling.take(intake, (64, 96))
    assert got.shape == (1, 36, 8, 12)
    assert torch.allclose(got[0, 0, 3], 32 + torch.arange(12.0) * 8, atol=0.8)


def test_defaults_and_refusals(tmp_path):
    chosen = wrapped(build_host("18s"), encoder="hrnet18").settings
    assert (chosen.b_mid, chosen.b_mid_tilde) == (3, 2)
    assert wrapped(use_mid=False).settings.b_mid is None
    chosen = wrapped(segformer(), encoder="segformer_b0").settings
    assert (chosen.b_mid, chosen.b_mid_tilde) == (1, 1)
    with pytest.raises(ValueError, match=r"b_mid=3 is out of range.*0\.\.2"):
        wrapped(b_mid=3)
    with pytest.raises(ValueError, match="stage 2 of the image encoder"):
        wrapped(segformer(), encoder="segformer_b0", b_mid=2)
    with pytest.raises(ValueError, match="'distilled_lite0' has no f_mid"):
        wrapped(encoder="distilled_lite0")
    with pytest.raises(ValueError, match="use_mid is True or False"):
        Settings(use_mid=1)


@torch.no_grad()
def test_saved_loaded_and_unwrapped(tmp_path):
    host = build_host("tiny")
    before = host(make_input(), POINTS)["instances"]
    model = wrapped(host, init="paper", b_mid=1, b_mid_tilde=0)
    fdrn_adapter.save(model, tmp_path / "mid.pth")
    again = fdrn_adapter.load(tmp_path / "mid.pth")
    assert again.settings == model.settings and again.settings.b_mid_tilde == 0
    features = model.encode_image(make_input(120, 140)[:, :3])
    assert torch.equal(logits(again, features), logits(model, features))
    back = fdrn_adapter.unwrap(model)
    assert torch.equal(back(make_input(), POINTS)["instances"], before)


def test_every_part_of_it_learns():
    torch.manual_seed(0)
    model = fdrn_adapter.wrap(
        build_host("tiny").train(), encoder="hrnet18s", init="paper", use_mid=True
    )
    model(make_input(batch=2), POINTS.repeat(2, 1, 1))["instances"].square().sum().backward()
    for name, parameter in model.tfi_mid.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", ["hrnet", "segformer"])
def test_engines_and_export(engine, kind, tmp_path):
    pytest.importorskip(engine)
    if kind == "hrnet":
        check_engine(wrapped(taught_host("tiny", 96), init="paper"), engine, tmp_path)
        return
    with focalclick.clickseg():
        model = wrapped(focalclick.build("b0"), encoder="segformer_b0", init="paper")
        check_engine(model, engine, tmp_path)


def check_engine(model, engine, folder):
    net = engines.accelerate(model, engine)
    x = make_input(96, 96)
    for size in ((100, 150), (77, 121)):
        image = make_input(*size)[:, :3]
        with torch.no_grad():
            results = []
            for n in (model, net):
                features = n.encode_image(image)
                with n.recycling(features, [(5, 60, 10, 110)]):
                    results.append((features.maps["mid"], n(x, POINTS)["instances"]))
        for want, got in zip(*results, strict=True):
            assert want.std() > 1e-4
            assert (want - got).abs().max() < 1e-4 * max(1.0, want.abs().max().item())
    if engine == "onnxruntime":
        meta = export.export(model, folder, 96)
        assert meta["logit_difference"] < 1e-4 and meta["features"]["mid"]["stride"] == 8
