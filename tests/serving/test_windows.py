"""labelme, napari and X-AnyLabeling in real windows, on a screen without a monitor, with clicks.

FDRN_SCREENSHOTS names a folder for pictures of them; FDRN_PHOTO a photograph to be clicked at, with
two places in FDRN_PLACES ("x,y x,y": on the object and off it), and then the default network is
asked.
"""

import base64
import importlib.util
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import support
from PIL import Image
from support.screens import screen, shown
from support.server import serving
from support.stock import picture, taught_host

import fdrn_adapter
from fdrn_adapter import zoo
from fdrn_adapter.images import read_image
from fdrn_adapter.outlines import filled
from fdrn_adapter.serving.bridge import PromptSession

pytestmark = pytest.mark.slow

PLACES = os.environ.get("FDRN_PLACES", "96,72 200,100").split()


@pytest.fixture
def photo(tmp_path):
    if os.environ.get("FDRN_PHOTO"):
        return Path(os.environ["FDRN_PHOTO"]).resolve()
    Image.fromarray(picture()).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def screenshot(name, tmp_path):
    return Path(os.environ.get("FDRN_SCREENSHOTS", tmp_path)).resolve() / name


def script(name):
    return (Path(support.__file__).parent / name).read_text()


def test_labelme_asks_the_network_about_real_clicks(photo, tmp_path):
    pytest.importorskip("labelme")
    pytest.importorskip("osam")
    if os.environ.get("FDRN_PHOTO"):
        model, bridge = "", PromptSession(zoo.load("distilled-hrnet18s"))
    else:
        network = fdrn_adapter.wrap(taught_host("tiny"), init="paper")
        fdrn_adapter.save(network, tmp_path / "fdrn.pth")
        model = f"--model {tmp_path / 'fdrn.pth'} --crop 64"
        bridge = PromptSession(network, crop=64)
    picture_file = screenshot("labelme.png", tmp_path)
    with screen() as environment:
        said = shown(script("labelme_window.py"), [
            model, str(photo), str(tmp_path / "labels"), str(picture_file), *PLACES
        ], {**environment, "HOME": str(tmp_path)})
    points = json.loads(said.splitlines()[-1])
    assert np.allclose(points, [[float(v) for v in p.split(",")] for p in PLACES], atol=1.5)
    (file,) = (tmp_path / "labels").glob("*.json")
    (shape,) = json.loads(file.read_text())["shapes"]
    assert (shape["label"], shape["shape_type"]) == ("object", "mask")
    (left, top), (right, bottom) = np.array(shape["points"]).astype(int)
    image = read_image(photo)
    mask = np.zeros(image.shape[:2], bool)
    part = np.asarray(Image.open(io.BytesIO(base64.b64decode(shape["mask"]))))
    mask[top : bottom + 1, left : right + 1] = part
    # labelme's second click is a positive one, too
    want = bridge.predict(image, [tuple(np.floor(np.array(p) + 0.5)) for p in points]).mask
    assert np.array_equal(mask, want) and want.any()
    assert np.asarray(Image.open(picture_file)).std() > 10


def test_napari_asks_the_network_about_real_clicks(photo, tmp_path):
    pytest.importorskip("napari")
    pytest.importorskip("qtpy")
    picture_file, labels = screenshot("napari.png", tmp_path), tmp_path / "labels.npy"
    with screen() as environment:
        said = shown(script("napari_window.py"), [
            str(photo), str(picture_file), str(labels), *PLACES
        ], environment)
    on, off, status = json.loads(said.splitlines()[-1])
    assert (len(on), len(off)) == (1, 1), status
    assert np.allclose([*on, *off], [[float(v) for v in p.split(",")] for p in PLACES], atol=2)
    bridge = PromptSession(zoo.load("distilled-hrnet18s"))
    want = bridge.predict(read_image(photo), on, off).mask
    found = np.load(labels)
    assert np.array_equal(found == 1, want) and want.any()
    assert np.asarray(Image.open(picture_file)).std() > 10


def test_x_anylabeling_asks_the_server_about_clicks(photo, tmp_path):
    pytest.importorskip("uvicorn")
    if importlib.util.find_spec("anylabeling") is None:
        pytest.skip("X-AnyLabeling is not installed")
    if os.environ.get("FDRN_PHOTO"):
        model, options = zoo.load("distilled-hrnet18s"), ("distilled-hrnet18s",)
    else:
        model = fdrn_adapter.wrap(taught_host("tiny"), init="paper")
        fdrn_adapter.save(model, tmp_path / "fdrn.pth")
        options = (tmp_path / "fdrn.pth", "--crop", "64")
    picture_file = screenshot("x_anylabeling.png", tmp_path)
    with screen() as environment, serving(*options) as served:
        said = shown(script("x_anylabeling_window.py"), [
            str(photo), served.url, str(tmp_path), str(picture_file), *PLACES
        ], {**environment, "HOME": str(tmp_path)})
    shapes = json.loads(said.splitlines()[-1])
    marks = {s["label"]: s["points"][0] for s in shapes if s["type"] == "point"}
    on, off = marks["AUTOLABEL_ADD"], marks["AUTOLABEL_REMOVE"]
    assert np.allclose([on, off], [[float(v) for v in p.split(",")] for p in PLACES], atol=2)
    image = read_image(photo)
    rings = [np.array(s["points"]) for s in shapes if s["type"] == "polygon"]
    crop = {} if os.environ.get("FDRN_PHOTO") else {"crop": 64}
    want = PromptSession(model, **crop).predict(image, [on], [off]).mask
    found = filled(rings, want.shape)
    assert want.any()
    assert (found & want).sum() >= 0.98 * (found | want).sum()  # polygons are coarser
    assert np.asarray(Image.open(picture_file)).std() > 10
