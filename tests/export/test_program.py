"""The exported program: numpy, onnxruntime and Pillow, and a session's masks click by click."""

import io
import json

import cv2
import numpy as np
import pytest
import torch
from fdrn_adapter.examples import onnx_click
from PIL import Image
from support import sam_graphs
from support.stock import picture, taught_host

import fdrn_adapter
from fdrn_adapter import export
from fdrn_adapter.encoders.sizes import resized_to
from fdrn_adapter.evaluation.methods import catalogue
from fdrn_adapter.export import files
from fdrn_adapter.images import as_rgb

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("ritm")
CROP = 96
# Shares of the image: on the object, beside it, in a corner, far off, on the object again.
PLACES = [(0.4, 0.45, True), (0.45, 0.5, True), (0.8, 0.1, False), (0.95, 0.95, True),
          (0.05, 0.9, False), (0.35, 0.4, True)]
USE = {"crop": CROP, "threshold": 0.4, "first_twice": True, "honour_clicks": True}


def capped():
    model = fdrn_adapter.wrap(taught_host("tiny", CROP), encoder="hrnet18s", encoder_max_side=200)
    return model.eval()


def of_sam(folder):
    path = sam_graphs.embedder(folder / "tiny_sam.onnx")
    model = fdrn_adapter.wrap(
        taught_host("tiny", CROP), encoder=f"onnx:{path}", init="paper", context_channels=8,
        affinity="gather", b_low_tilde=0, b_high_tilde=0,
    )
    taught = taught_host("tiny", CROP).feature_extractor.cls_head
    model.host.feature_extractor.cls_head.load_state_dict(taught.state_dict())
    model.inference = USE
    return model.eval()


@pytest.fixture(scope="module", params=["capped", "sam"])
def exported(request, tmp_path_factory):
    pytest.importorskip("ritm_annotation")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    model = capped() if request.param == "capped" else of_sam(folder)
    return model, folder / "out", export.export(model, folder / "out", CROP)


def check_clicks(model, folder, image, crop=CROP):
    """All masks, and that the roi was kept and found anew."""
    session = fdrn_adapter.InteractiveSession(model, engine="eager", crop=crop)
    clicker = onnx_click.Clicker(folder)
    session.set_image(image)
    clicker.set_image(image)
    for x, y, positive in PLACES:
        x, y = x * (image.shape[1] - 1), y * (image.shape[0] - 1)
        mask, prob = session.add_click(x, y, positive), clicker.click(x, y, positive)
        assert clicker.roi == tuple(session.pipeline.state.roi)
        assert np.abs(prob - session.prob).max() < 2e-3
        assert ((prob > clicker.threshold) != mask).sum() <= mask.size * 1e-4
    return session


@pytest.mark.parametrize("size", [(160, 240), (420, 500), (40, 50), (1, 30)])
def test_masks_are_the_sessions_click_by_click(exported, size):
    model, folder, _ = exported
    image = cv2.resize(picture(), size[::-1])
    session = check_clicks(model, folder, image)
    assert session.prob.std() > 1e-3


def test_numbers_that_the_session_goes_by_are_said(exported):
    model, folder, meta = exported
    session = fdrn_adapter.InteractiveSession(model, crop=CROP)
    assert meta == json.loads((folder / "meta.json").read_text())
    assert meta["threshold"] == session.threshold and meta["logit_difference"] < 1e-4
    assert meta["encoder_side"] == (1024 if model.inference else None)
    assert meta["first_twice"] is bool(model.inference)
    assert meta["honour_clicks_px"] == (2 if model.inference else 0)
    assert meta["zoom"] == {"threshold": 0.5, "expansion": 1.4, "min_side_px": 200, "keep_iou": 0.5}
    assert {"roi", "points", "prev_mask", "logits", "sizes", "encoder input"} <= meta["use"].keys()


def test_the_example_beside_it_is_what_the_program_gives(exported):
    _, folder, _ = exported
    with np.load(folder / files.VECTORS) as stored:
        image, clicks, probs = (stored[n] for n in ("image", "clicks_xy_positive", "probs"))
    clicker = onnx_click.Clicker(folder)
    clicker.set_image(image)
    for (x, y, positive), want in zip(clicks, probs, strict=True):
        assert np.abs(clicker.click(x, y, positive) - want.astype(np.float32)).max() < 4e-3
    clicker.start_object()
    assert not clicker.prob.any()
    again = clicker.click(*clicks[0])
    assert np.abs(again - probs[0]).max() < 4e-3


def encoded(image, kind=".png", **options):
    return cv2.imencode(kind, image, **options)[1].tobytes()


def pillow(data):
    return Image.open(io.BytesIO(data))


def turned(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


RGB = picture()
GRAY = RGB[..., 0]
INPUTS = {
    "uint8": RGB, "gray": GRAY, "gray (H, W, 1)": GRAY[..., None],
    "RGBA": np.dstack([RGB, GRAY]), "float": RGB / 255, "float32": (RGB / 255).astype(np.float32),
    "bool": GRAY > 90, "flipped": RGB[::-1, ::-1],
    "palette": pillow(encoded(RGB)).quantize(9), "CMYK": Image.fromarray(RGB).convert("CMYK"),
    "12 bits": pillow(encoded(GRAY.astype(np.uint16) * 16)), "turned": pillow(turned(RGB)),
}
REFUSED = {
    "uint16": RGB.astype(np.uint16) * 256, "int64": RGB.astype(np.int64), "above 1": RGB / 100,
    "NaN": np.where(RGB > 100, np.nan, 0.5), "empty": RGB[:0], "channels first": RGB.transpose(
        2, 0, 1)[:, :, :5], "one row": RGB[0, :, 0], "two channels": RGB[..., :2],
}


@pytest.mark.parametrize("name", INPUTS)
def test_images_are_read_as_the_session_does(name):
    assert np.array_equal(onnx_click.as_rgb(INPUTS[name]), as_rgb(INPUTS[name]))


@pytest.mark.parametrize("name", REFUSED)
def test_images_without_meaning_are_refused_as_by_the_session(name):
    for read in (as_rgb, onnx_click.as_rgb):
        with pytest.raises(ValueError, match="image"):
            read(REFUSED[name])


def test_files_are_read_and_clicks_outside_refused(exported, tmp_path):
    _, folder, _ = exported
    (tmp_path / "a.png").write_bytes(turned(RGB))
    clicker = onnx_click.Clicker(folder)
    clicker.set_image(tmp_path / "a.png")
    assert clicker.prob.shape == (240, 160) and not clicker.prob.any()
    for x, y in ((160, 5), (5, 240), (-0.01, 5), (float("nan"), 5)):
        with pytest.raises(ValueError, match="outside the image, 160 x 240"):
            clicker.click(x, y)
    assert clicker.clicks == []
    assert np.array_equal(clicker.click(79.6, 99.5), _again(clicker, 80, 100))


def _again(clicker, x, y):
    clicker.start_object()
    return clicker.click(x, y)


@pytest.mark.parametrize("size", [(97, 143), (300, 5), (5, 300), (61, 61), (1, 9)])
@pytest.mark.parametrize("side", [64, 200, 1024])
def test_images_are_resized_as_for_the_encoder(size, side):
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    want = resized_to(image, side)[0].numpy()
    got = onnx_click.resize_smoothly(image[0].numpy(), *want.shape[1:])
    assert np.abs(got - want).max() < 1e-4


def test_a_mixture_of_two_models_is_refused(exported, tmp_path):
    model, folder, _ = exported
    for name in ("encoder.onnx", "decoder.onnx", "meta.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    onnx_click.Clicker(tmp_path)
    data = bytearray((tmp_path / "decoder.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "decoder.onnx").write_bytes(data)
    with pytest.raises(ValueError, match=r"decoder.onnx is not the file that meta.json is about"):
        onnx_click.Clicker(tmp_path)
    with pytest.raises(ValueError, match=r"a: .*decoder.onnx is not the file"):
        catalogue.build(catalogue.parse_models(f"a=onnx:{tmp_path}")[0], catalogue.Options())
    (tmp_path / "decoder.onnx").unlink()
    with pytest.raises(ValueError, match=r"decoder.onnx is not the file"):
        onnx_click.Clicker(tmp_path)
    (tmp_path / "meta.json").write_text('{"format": "fdrn_adapter.onnx/1", "files": {}}')
    with pytest.raises(ValueError, match="of another version"):
        onnx_click.Clicker(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("exported", ["capped", "sam"], indirect=True)
def test_an_export_that_is_interrupted_leaves_the_one_before(exported, tmp_path, monkeypatch):
    model, folder, _ = exported
    before = {}
    for path in folder.iterdir():
        before[path.name] = path.read_bytes()
    (tmp_path / "out").mkdir()
    for name, data in before.items():
        (tmp_path / "out" / name).write_bytes(data)
    with torch.no_grad():
        model.host.feature_extractor.cls_head.bias.add_(1)
    try:
        for step in ("_compare", "described", "_vectors"):
            def interrupted(*args, **kwargs):
                raise KeyboardInterrupt

            with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
                patched.setattr(files, step, interrupted)
                export.export(model, tmp_path / "out", CROP)
            now = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
            assert {n: d for n, d in now.items() if n != ".fdrn.lock"} == \
                {n: d for n, d in before.items() if n != ".fdrn.lock"}
    finally:
        with torch.no_grad():
            model.host.feature_extractor.cls_head.bias.sub_(1)


@pytest.mark.slow
def test_distilled_hrnet18s_of_the_zoo(tmp_path):
    pytest.importorskip("timm")
    model = fdrn_adapter.zoo.load("distilled-hrnet18s")
    meta = export.export(model, tmp_path)
    assert meta["crop"] == 192 and meta["encoder_side"] == 512 and meta["logit_difference"] < 1e-3
    for size in ((160, 240), (700, 900)):
        session = check_clicks(model, tmp_path, cv2.resize(picture(), size[::-1]), crop=192)
        assert session.mask.any()
