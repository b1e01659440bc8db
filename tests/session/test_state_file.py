"""Sessions in files, boxes, and images as bytes and PIL pictures."""

import io
import logging

import cv2
import numpy as np
import pytest
from PIL import Image
from support.stock import CLICKS, NARROW, picture, taught_host

import fdrn_adapter
from fdrn_adapter.images import as_rgb


@pytest.fixture(scope="module")
def model():
    return fdrn_adapter.wrap(taught_host("tiny"), init="paper", **NARROW)


def opened(model, image=None):
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    session.set_image(picture() if image is None else image)
    return session


FIVE = [(col, row, positive) for row, col, positive in CLICKS[:5]]


def filled_session(model):
    session = opened(model)
    session.add_clicks(FIVE[:3])
    session.undo()
    session.add_object("from a mask")
    mask = np.zeros((160, 240), bool)
    mask[50:90, 80:120] = True
    session.set_mask(mask)
    session.add_click(*FIVE[3])
    session.add_object("from a box")
    session.set_box(150, 90, 239, 159)
    session.add_click(*FIVE[4])
    session.select_object("from a mask")
    return session


def test_a_state_comes_back_from_a_file(model, tmp_path, caplog):
    session = filled_session(model)
    session.save_state(tmp_path / "state.npz")
    other = opened(model)
    other.add_clicks(FIVE)
    with caplog.at_level(logging.WARNING):
        other.load_state(tmp_path / "state.npz")
    assert caplog.records == []
    assert other.objects == session.objects and other.current_object == "from a mask"
    for name in session.objects:
        session.select_object(name)
        other.select_object(name)
        assert session.clicks == other.clicks and len(session.clicks) > 1 or name == "from a mask"
        assert np.array_equal(session.prob, other.prob) and session.mask.any()
    session.undo()
    other.undo()
    assert np.array_equal(session.prob, other.prob)
    assert [p.name for p in tmp_path.iterdir()] == ["state.npz"]


def test_states_of_other_images_networks_and_files_are_told(model, tmp_path, caplog):
    path = tmp_path / "state.npz"
    filled_session(model).save_state(path)
    other = opened(model, np.roll(picture(), 9, axis=1))
    other.add_clicks(FIVE[:1])
    before = other.prob
    with pytest.raises(ValueError, match="another image, of 240 x 160 pixels"):
        other.load_state(path)
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], b"", b"text", data.replace(b"start_1", b"start_7")):
        (tmp_path / "bad.npz").write_bytes(damaged)
        with pytest.raises(fdrn_adapter.CheckpointError):
            opened(model).load_state(tmp_path / "bad.npz")
    assert np.array_equal(other.prob, before) and other.objects == ("object 1",)
    changed = opened(fdrn_adapter.wrap(taught_host("18s"), init="paper"))
    with caplog.at_level(logging.WARNING):
        changed.load_state(path)
    assert any("pixels differ from the saved mask" in r.message for r in caplog.records)


def test_a_box_is_a_start_that_clicks_correct(model, monkeypatch):
    session = opened(model)
    session.add_clicks(FIVE[:2])
    before = session.prob
    mask = session.set_box(239, 159, 150, 90)
    assert session.clicks[-1].positive
    assert not any(c.positive for c in session.clicks[:-1]) and len(session.clicks) == 3
    inside = np.zeros_like(mask)
    inside[90:, 150:] = True
    uncut = opened(model)
    monkeypatch.setattr(uncut.pipeline, "cut_off", lambda box: None)
    uncut.set_box(150, 90, 239, 159)
    assert uncut.prob[~inside].any() and not session.prob[~inside].any()
    assert np.array_equal(uncut.prob[inside], session.prob[inside])
    want = opened(model)
    want.set_box(150, 90, 239, 159)
    assert np.array_equal(want.prob, session.prob)
    session.add_click(*FIVE[2])
    session.undo()
    assert np.array_equal(want.prob, session.prob)
    with pytest.raises(ValueError, match="outside of the image"):
        session.set_box(300, 0, 400, 50)
    assert np.array_equal(want.prob, session.prob)
    session.reset_object()
    session.add_clicks(FIVE[:2])
    assert np.array_equal(session.prob, before)
    session.set_box(0, 0, 239, 159)  # nothing is outside of it
    assert len(session.clicks) == 1
    follows = fdrn_adapter.InteractiveSession(fdrn_adapter.wrap(taught_host("tiny")), crop=96)
    follows.set_image(picture())
    found = follows.set_box(70, 50, 130, 100)
    assert found[75, 100] and found.mean() < 0.2


def test_warming_up_leaves_the_state(model):
    session = opened(model)
    session.add_clicks(FIVE[:2])
    before = session.prob
    session.warm_up()
    assert np.array_equal(session.prob, before) and len(session.clicks) == 2
    fdrn_adapter.InteractiveSession(model, crop=64).warm_up()  # without an image as well


def test_images_as_bytes_and_pil_pictures():
    image = picture()
    encoded = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    assert np.array_equal(as_rgb(encoded), image)
    assert np.array_equal(as_rgb(memoryview(encoded)), image)
    with pytest.raises(ValueError, match="not an image that OpenCV can read"):
        as_rgb(encoded[:40])
    with pytest.raises(ValueError, match="not an image that OpenCV can read"):
        as_rgb(b"")
    assert np.array_equal(as_rgb(Image.fromarray(image)), image)


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "HSV", "RGBA", "LA", "1", "L"])
def test_pil_pictures_of_any_mode_are_what_their_file_shows(mode):
    picture_in_mode = Image.fromarray(picture()).convert("RGB").convert(mode)
    want = np.asarray(picture_in_mode.convert("RGB"))
    assert np.array_equal(as_rgb(picture_in_mode), want)


def test_pil_pictures_are_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    buffer = io.BytesIO()
    Image.fromarray(picture()).save(buffer, "JPEG", exif=exif)
    turned = Image.open(buffer)
    assert as_rgb(turned).shape == (240, 160, 3)
    assert as_rgb(buffer.getvalue()).shape == (240, 160, 3)
    with pytest.raises(ValueError, match=r"floating-point image should be in \[0, 1\]"):
        as_rgb(Image.fromarray(np.full((4, 4), 7.5, np.float32)))
