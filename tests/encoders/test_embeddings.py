"""F1 that gives an embedding: aligned first, viewed after; SAM's encoder in a file, and our own."""

import numpy as np
import pytest
import torch
from support import sam_graphs
from support.networks import build_host

import fdrn_adapter
from fdrn_adapter import ImageFeatures, engines
from fdrn_adapter.encoders import sam_onnx, sam_space
from fdrn_adapter.encoders.aligned_views import AlignedViews
from fdrn_adapter.encoders.sam_onnx import VARIABLE, SamOnnx
from fdrn_adapter.evaluation.methods.method import Options
from fdrn_adapter.evaluation.methods.networks import network
from fdrn_adapter.features import roi
from fdrn_adapter.features.recycling import affinity, recycle
from fdrn_adapter.features.roi import Grid, Placement
from fdrn_adapter.zoo.named import announced

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

CROP = 64


@pytest.fixture(scope="module")
def encoder_file(tmp_path_factory):
    return sam_graphs.embedder(tmp_path_factory.mktemp("sam") / "tiny_sam.onnx")


@pytest.fixture
def image():
    torch.manual_seed(1)
    return torch.rand(1, 3, 60, 90)


@pytest.fixture
def model(encoder_file):
    torch.manual_seed(0)
    return wrapped(encoder_file)


def wrapped(encoder_file, **options):
    settings = {"init": "paper", "b_low_tilde": 0, "b_high_tilde": 0, "affinity": "gather"}
    return fdrn_adapter.wrap(
        build_host(), encoder=f"onnx:{encoder_file}", **{**settings, **options}
    )


def click(net, features, rois=((5, 50, 10, 80),)):
    torch.manual_seed(2)
    crop = torch.rand(len(rois), 4, CROP, CROP)
    points = torch.full((len(rois), 4, 3), -1.0)
    points[:, 0] = torch.tensor([30.0, 31.0, 0.0])
    with torch.no_grad(), net.recycling(features, rois):
        return net(crop, points)["instances"]


def test_embedding_lies_where_the_pixels_are(model, image):
    features = model.encode_image(image)
    assert features.input_size == (683, 1024)  # enlarged
    embedding = features.maps["embedding"]
    assert embedding.shape == (1, sam_space.CHANNELS, 43, 64)
    # By hand: enlarge, normalise, average 16x16 pixels, mix, reduce.
    big = model.image_encoder.resized(image)
    mean = torch.tensor(sam_graphs.MEAN).view(1, 3, 1, 1) / 255
    std = torch.tensor(sam_graphs.STD).view(1, 3, 1, 1) / 255
    padded = torch.zeros(1, 3, 1024, 1024)
    padded[:, :, :683] = (big - mean) / std
    mix = torch.from_numpy(np.random.default_rng(0).normal(0, 0.3, (256, 3)).astype(np.float32))
    mixed = torch.einsum("oc,bchw->bohw", mix, torch.nn.functional.avg_pool2d(padded, 16))
    parts = sam_space.components()
    wanted = torch.einsum(
        "kc,bchw->bkhw", parts["axes"], mixed - parts["mean"].view(1, -1, 1, 1)
    ) / parts["scale"]
    assert torch.allclose(embedding, wanted[:, :, :43], atol=1e-3)


def test_aligned_first_viewed_after(model, image):
    features, rois = model.encode_image(image), torch.tensor([[5.0, 50, 10, 80]])
    got = recycle(features, rois).aligned(model.intakes, (CROP, CROP)).tensors
    views, grid = model.image_encoder.views, Grid(16)
    for stride, name in ((4, "low"), (16, "affinity")):
        size = (CROP // stride,) * 2
        sizes = torch.tensor([[60.0, 90]]).double(), torch.tensor([[683.0, 1024]]).double()
        place = Placement(rois.double(), *sizes, (CROP, CROP))
        aligned = roi.align(
            features.maps["embedding"], torch.tensor([0]), place, grid, Grid(stride), size
        )
        with torch.no_grad():
            key = torch.nn.functional.conv2d(aligned, views.key_view.weight, views.key_view.bias)
            wanted = views.context_view(aligned) if stride == 4 else affinity(key, key)
            assert torch.allclose(got[name], wanted, atol=1e-5)


def test_embedding_changes_the_output_and_is_encoded_once(model, image, monkeypatch):
    runs = []
    stock = SamOnnx.embedding
    monkeypatch.setattr(
        SamOnnx, "embedding", lambda self, *args: runs.append(1) or stock(self, *args)
    )
    features = model.encode_image(image)
    first = click(model, features)
    assert torch.equal(first, click(model, features))
    assert len(runs) == 1
    other = model.encode_image(1 - image)
    assert (click(model, other) - first).abs().max() > 1e-3


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_engines_agree(model, image, engine):
    if engine not in engines.available():
        pytest.skip(f"{engine} is not installed")
    wanted = click(model, model.encode_image(image))
    net = engines.accelerate(model, engine)
    got = click(net, net.encode_image(image))
    assert torch.allclose(got, wanted, atol=1e-4 * wanted.abs().max())


def test_identity_start_is_exact(encoder_file, image):
    host = build_host()
    model = wrapped(encoder_file, init="identity", value_channels=24, shortcut_kernel=3)
    points = torch.full((1, 4, 3), -1.0)
    points[0, 0] = torch.tensor([20.0, 30.0, 0.0])
    crop = torch.cat([image, torch.zeros(1, 1, 60, 90)], dim=1)
    with torch.no_grad():
        wanted = host(crop, points)["instances"]
        assert torch.equal(model(crop, points)["instances"], wanted)
        model.tfi.block.residual[-1].weight.fill_(1.0)
        assert not torch.allclose(model(crop, points)["instances"], wanted)


def test_gradients_reach_the_views_and_not_f1(model, image):
    model.train()
    features = model.encode_image(image)
    assert not features.maps["embedding"].requires_grad
    crop, points = torch.rand(2, 4, CROP, CROP), torch.full((2, 4, 3), -1.0)
    points[:, 0] = torch.tensor([30.0, 31.0, 0.0])
    for _ in range(2):  # nothing that has a gradient is kept from one step to the next
        model.zero_grad()
        with model.recycling(features, [[5, 50, 10, 80], [0, 50, 5, 70]], [0, 0]):
            model(crop, points)["instances"].sum().backward()
        views = model.image_encoder.views
        assert views.key_view.weight.grad.abs().max() > 0
        assert views.context_view[0].weight.grad.abs().max() > 0
    assert model.image_encoder.backbone.reduce.weight.grad is None


def test_checkpoint_names_the_file_and_takes_it_from_the_variable(
    model, image, encoder_file, tmp_path, monkeypatch
):
    wanted = click(model.eval(), model.encode_image(image))
    fdrn_adapter.save(model, tmp_path / "a.pth")
    stored = torch.load(tmp_path / "a.pth", weights_only=True)
    assert stored["config"]["params"]["encoder"]["value"] == "onnx:tiny_sam.onnx"
    assert str(encoder_file.parent) not in str(stored["config"])
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(RuntimeError, match="tiny_sam.onnx is not at hand.*FDRN_SAM_ENCODER"):
        fdrn_adapter.load(tmp_path / "a.pth").encode_image(image)
    # Commands that are to work on images say so at once, not after the first of several networks.
    for opened in (announced, lambda source: network(source, Options())):
        with pytest.raises(RuntimeError, match="tiny_sam.onnx is not at hand.*FDRN_SAM_ENCODER"):
            opened(str(tmp_path / "a.pth"))
    monkeypatch.setenv(VARIABLE, str(encoder_file))
    again = fdrn_adapter.load(tmp_path / "a.pth")
    assert torch.equal(click(again, again.encode_image(image)), wanted)


def test_another_file_is_a_warning_that_names_both(model, tmp_path, monkeypatch):
    fdrn_adapter.save(model, tmp_path / "a.pth")
    other = sam_graphs.embedder(tmp_path / "other.onnx", seed=5)
    monkeypatch.setenv(VARIABLE, str(other))
    with pytest.warns(UserWarning, match="tiny_sam.onnx .*other.onnx has another content"):
        fdrn_adapter.load(tmp_path / "a.pth")


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_the_encoder_has_the_callers_threads_in_every_engine(model, image, engine, monkeypatch):
    if engine not in engines.available():
        pytest.skip(f"{engine} is not installed")
    asked, real = [], sam_onnx._compiled
    monkeypatch.setattr(sam_onnx, "_compiled", lambda *args: asked.append(args[1:]) or real(*args))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:  # what surrounds an engine's call runs on one thread; the encoder does not
        engines.accelerate(model, engine).encode_image(image)
    finally:
        torch.set_num_threads(before)
    assert asked == [(engine, 2)]


def test_features_from_an_embedding_that_a_tool_has(model, image):
    wanted = model.encode_image(image)
    backbone = model.image_encoder.backbone
    embedding = backbone.embedding(model.image_encoder.resized(image))
    got = fdrn_adapter.features_from_embedding(model, embedding, (60, 90))
    assert torch.equal(got.maps["embedding"], wanted.maps["embedding"])
    assert torch.equal(click(model, got), click(model, wanted))
    with pytest.raises(ValueError, match=r"\(1, 256, 64, 64\), got \(1, 256, 32, 32\)"):
        fdrn_adapter.features_from_embedding(model, embedding[:, :, :32, :32], (60, 90))
    with pytest.raises(ValueError, match="onnx:FILE"):
        fdrn_adapter.features_from_embedding(build_host(), embedding, (60, 90))


def test_saved_features_are_viewed_alike(model, image, tmp_path):
    features = model.encode_image(image)
    wanted = click(model, features)
    features.save(tmp_path / "f.pth")
    assert torch.equal(click(model, ImageFeatures.load(tmp_path / "f.pth")), wanted)


@pytest.mark.parametrize(
    ("use_low", "use_high", "graft"), [(True, False, "tfi"), (False, True, "sfi")]
)
def test_context_alone_and_affinity_alone(encoder_file, image, use_low, use_high, graft):
    model = wrapped(encoder_file, use_low=use_low, use_high=use_high)
    assert [name for name in ("tfi", "sfi") if getattr(model, name) is not None] == [graft]
    first = click(model, model.encode_image(image))
    assert (click(model, model.encode_image(1 - image)) - first).abs().max() > 1e-4


def test_files_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="there is no file 'nowhere.onnx'"):
        fdrn_adapter.wrap(build_host(), encoder="onnx:nowhere.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    broken = fdrn_adapter.wrap(build_host(), encoder=f"onnx:{tmp_path / 'text.onnx'}")
    with pytest.raises(ValueError, match="not an image encoder that can be run"):
        broken.encode_image(torch.rand(1, 3, 32, 32))
    wrong = sam_graphs.encoder(tmp_path / "small.onnx")
    with pytest.raises(ValueError, match=r"expected one embedding \(256, 64, 64\)"):
        fdrn_adapter.wrap(build_host(), encoder=f"onnx:{wrong}").encode_image(
            torch.rand(1, 3, 32, 32)
        )


def test_views_start_as_a_similarity():
    torch.manual_seed(0)
    deviations = torch.linspace(1, 0.1, 96)
    views = AlignedViews(96, 0, 64)
    views.start(deviations)
    with torch.no_grad():
        components = torch.randn(4, 96, 8, 8) * deviations.view(1, -1, 1, 1)
        key = torch.nn.Conv2d.forward(views.key_view, components)
    logits = key.flatten(2).transpose(1, 2) @ key.flatten(2)
    own = logits.diagonal(dim1=1, dim2=2)
    assert own.mean().item() == pytest.approx(8.0, rel=0.1)
    others = logits - torch.diag_embed(own)
    assert others.std().item() == pytest.approx(1.0, rel=0.2)


def test_our_own_encoder(image, tmp_path):
    pytest.importorskip("timm")
    model = fdrn_adapter.wrap(build_host(), encoder="distilled_lite0", freeze_encoder=True).eval()
    assert model.encoder_source == "distilled from MobileSAM"
    features = model.encode_image(image)
    assert features.input_size == (341, 512)
    assert features.maps["embedding"].shape == (1, 96, 43, 64)
    fdrn_adapter.save(model, tmp_path / "a.pth")
    again = fdrn_adapter.load(tmp_path / "a.pth")
    got = again.encode_image(image).maps["embedding"]
    assert torch.equal(got, features.maps["embedding"])
    for engine in engines.available():
        net = engines.accelerate(model, engine)
        fast = net.encode_image(image).maps["embedding"].cpu()  # compiling compares odd sizes, too
        assert torch.allclose(fast, got, atol=1e-3 * got.abs().max()), engine
