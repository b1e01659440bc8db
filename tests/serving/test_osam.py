"""labelme's way: osam's API and labelme's own session ask the network."""

import numpy as np
import pytest
from PIL import Image
from support.stock import picture, taught_host

import fdrn_adapter
from fdrn_adapter.serving.bridge import PromptSession

osam = pytest.importorskip("osam")

from fdrn_adapter.commands.labelme import in_rgb  # noqa: E402
from fdrn_adapter.serving import osam_model  # noqa: E402
from fdrn_adapter.serving.models import ServedModel  # noqa: E402

A, B, C = (96.0, 72.0), (100.0, 80.0), (200.0, 100.0)


@pytest.fixture(scope="module")
def model():
    return fdrn_adapter.wrap(taught_host("tiny"), init="paper")


@pytest.fixture
def registered(model, monkeypatch):
    asked = []

    def opened(**options):
        asked.append(options)
        return ServedModel("tiny", PromptSession(model, crop=64))

    monkeypatch.setattr(osam_model, "open_model", opened)
    monkeypatch.setattr(osam.apis, "running_model", None)
    before = list(osam.apis.registered_model_types)
    osam_model.register(model="some.pth")
    yield asked
    osam.apis.registered_model_types[:] = before


def request(points, labels, **given):
    prompt = osam.types.Prompt(points=np.array(points), point_labels=np.array(labels))
    return osam.types.GenerateRequest(model="fdrn", prompt=prompt, **given)


def whole(response):
    mask = np.zeros((160, 240), bool)
    for a in response.annotations:
        box = a.bounding_box
        mask[box.ymin : box.ymax + 1, box.xmin : box.xmax + 1] = a.mask
    return mask


def test_osams_points_keep_their_order_and_boxes_are_boxes(registered, model):
    bridge = PromptSession(model, crop=64)
    found = whole(osam.apis.generate(request([A, C, B], [1, 0, 1], image=picture())))
    bridge.predict(picture(), [A], [C])
    assert np.array_equal(found, bridge.predict(picture(), [A, B], [C]).mask)
    unordered = PromptSession(model, crop=64).predict(picture(), [A, B], [C]).mask
    assert not np.array_equal(found, unordered)
    boxed = whole(osam.apis.generate(request([(150, 90), (239, 159)], [2, 3], image=picture())))
    assert np.array_equal(boxed, bridge.predict(picture(), box=(150, 90, 239, 159)).mask)
    edge = osam.apis.generate(request([(240.0, 160.0)], [1], image=picture()))
    assert edge.model == "fdrn:latest"
    assert registered == [{"max_bytes": osam_model.MAX_BYTES, "model": "some.pth"}]


def test_an_embedding_names_the_image(registered, model):
    encoded = []
    hook = model.image_encoder.register_forward_pre_hook(lambda m, a: encoded.append(1))
    running = osam_model.FDRNOsamModel()
    embedding = running.encode_image(picture())
    sent = osam.types.ImageEmbedding.model_validate_json(embedding.model_dump_json())
    alone = running.generate(request([A], [1], image_embedding=sent))
    hook.remove()
    assert len(encoded) == 1
    want = PromptSession(model, crop=64).predict(picture(), [A]).mask
    assert np.array_equal(whole(alone), want) and want.any()
    with pytest.raises(ValueError, match="embedding"):
        running.generate(request([A], [1]))
    texts = osam.types.GenerateRequest(
        model="fdrn", image=picture(), prompt=osam.types.Prompt(texts=["cat"]))
    with pytest.raises(ValueError, match="no texts"):
        running.generate(texts)


def test_labelmes_own_session_and_its_list_of_models(registered, model, monkeypatch):
    pytest.importorskip("PyQt5")
    labelme_session = pytest.importorskip("labelme._automation").OsamSession
    from labelme.widgets import _ai_assisted_annotation_widget as widget
    from labelme.widgets import canvas

    session = labelme_session(model_name=osam_model.NAME)
    response = session.run(picture(), "hash", np.array([A]), np.array([1]))
    want = PromptSession(model, crop=64).predict(picture(), [A]).mask
    assert np.array_equal(whole(response), want)
    # what `fdrn labelme` changes
    models = widget.AiAssistedAnnotationWidget._available_models
    assert all(isinstance(name, str) and ":" in name for name, _ in models)
    assert isinstance(canvas.Canvas._osam_session_model_name, str)


def test_labelmes_pictures_come_with_red_first(tmp_path):
    """It takes Qt's bytes as they lie in memory for RGB."""
    QtGui = pytest.importorskip("PyQt5.QtGui")
    utils = pytest.importorskip("labelme.utils")
    Image.fromarray(picture()).save(tmp_path / "a.png")
    for kind in (QtGui.QImage.Format_RGB32, QtGui.QImage.Format_ARGB32_Premultiplied):
        found = QtGui.QImage(str(tmp_path / "a.png")).convertToFormat(kind)
        as_array = in_rgb(utils.img_qt_to_arr)
        assert np.array_equal(as_array(img_qt=found)[..., :3], picture())
        assert np.array_equal(as_array(found)[..., :3], picture())
    assert (picture()[..., 0] != picture()[..., 2]).any()
