"""Objects with names, clicks moved, removed and tried out: each equals a session from scratch."""

import numpy as np
import pytest
from support.stock import CLICKS, NARROW, picture, taught_host

import fdrn_adapter

ON, OFF = (96, 72), (200, 100)


@pytest.fixture(scope="module")
def model():
    return fdrn_adapter.wrap(taught_host("tiny"), init="paper", **NARROW)


def opened(model, clicks=(), image=None):
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    session.set_image(picture() if image is None else image)
    for x, y, positive in clicks:
        session.add_click(x, y, positive)
    return session


FIVE = [(col, row, positive) for row, col, positive in CLICKS[:5]]


def test_objects_keep_their_clicks_and_steps(model):
    session = opened(model, FIVE[:3])
    first = session.prob
    assert session.objects == ("object 1",)
    assert session.add_object("cat") == "cat" and session.clicks == () and not session.mask.any()
    session.add_click(*FIVE[3])
    second = session.prob
    assert not np.array_equal(first, second)
    session.select_object("object 1")
    assert np.array_equal(session.prob, first) and len(session.clicks) == 3
    session.undo()
    session.add_click(*FIVE[4])
    want = opened(model, [*FIVE[:2], FIVE[4]])
    assert np.array_equal(session.prob, want.prob)
    session.select_object("cat")
    session.add_click(*FIVE[0])
    assert np.array_equal(session.prob, opened(model, [FIVE[3], FIVE[0]]).prob)


def test_names_order_and_deletion(model):
    session = opened(model, FIVE[:1])
    session.add_object("b")
    session.add_object()
    assert session.objects == ("object 1", "b", "object 3")
    session.rename_object("object 3", "c")
    session.move_object("c", 0)
    assert session.objects == ("c", "object 1", "b") and session.current_object == "c"
    session.select_object("object 1")
    session.delete_object("c")
    assert session.current_object == "object 1" and len(session.clicks) == 1
    session.delete_object("object 1")
    assert session.current_object == "b" and session.clicks == ()
    session.delete_object("b")
    assert session.objects == ("object 1",) and not session.mask.any()
    with pytest.raises(ValueError, match="no object 'b'; there are: object 1"):
        session.select_object("b")
    with pytest.raises(ValueError, match="already"):
        session.add_object("object 1")
    with pytest.raises(ValueError, match="place is 0 to 0, got 1"):
        session.move_object("object 1", 1)


def test_label_map_is_in_the_order_of_objects(model):
    session = opened(model)
    left = np.zeros((160, 240), bool)
    left[:, :150] = True
    session.set_mask(left)
    session.add_object()
    right = left[:, ::-1]
    session.set_mask(right)
    assert np.array_equal(session.label_map(), np.where(right, 2, 1))
    session.move_object("object 2", 0)
    assert np.array_equal(session.label_map(), np.where(left, 2, 1))
    assert np.array_equal(session.object_mask("object 1"), left)


def test_copies_of_objects_share_steps(model):
    session = opened(model, FIVE[:3])
    before = session.nbytes
    assert session.copy_object(2) == "object 2" and session.nbytes == before
    session.add_click(*FIVE[3])
    assert np.array_equal(session.prob, opened(model, [*FIVE[:2], FIVE[3]]).prob)
    session.select_object("object 1")
    assert np.array_equal(session.prob, opened(model, FIVE[:3]).prob)
    with pytest.raises(ValueError, match="3 clicks, 4 were"):
        session.copy_object(4)


def test_coming_back_to_an_image(model):
    other = np.roll(picture(), 40, axis=1)
    session = opened(model, FIVE[:2])
    session.add_object("second")
    session.add_click(*FIVE[2])
    want = session.prob
    session.set_image(other)
    assert session.objects == ("object 1",) and session.clicks == ()
    session.set_image(picture(), resume=True)
    assert session.objects == ("object 1", "second") and np.array_equal(session.prob, want)
    session.select_object("object 1")
    session.add_click(*FIVE[3])
    assert np.array_equal(session.prob, opened(model, [*FIVE[:2], FIVE[3]]).prob)
    session.set_image(picture())
    assert session.clicks == () and session.objects == ("object 1",)


def test_several_clicks_are_those_one_by_one_or_none(model):
    session = opened(model)
    session.add_clicks(FIVE)
    assert np.array_equal(session.prob, opened(model, FIVE).prob)
    before = session.prob
    with pytest.raises(ValueError, match="outside"):
        session.add_clicks([FIVE[0], (500, 0, True)])
    assert np.array_equal(session.prob, before) and len(session.clicks) == 5
    session.undo()
    assert np.array_equal(session.prob, opened(model, FIVE[:4]).prob)


def test_moving_and_removing_replays(model):
    session = opened(model, FIVE)
    session.remove_click(1)
    assert np.array_equal(session.prob, opened(model, [FIVE[0], *FIVE[2:]]).prob)
    session.move_click(-1, 10, 20)
    want = [FIVE[0], FIVE[2], FIVE[3], (10, 20, FIVE[4][2])]
    assert np.array_equal(session.prob, opened(model, want).prob)
    before, clicks = session.prob, session.clicks
    with pytest.raises(ValueError, match="outside"):
        session.move_click(0, -5, 3)
    with pytest.raises(IndexError, match="no click 4: the object has 4"):
        session.remove_click(4)
    assert np.array_equal(session.prob, before) and session.clicks == clicks


def test_peek_leaves_no_trace(model):
    session = opened(model, FIVE[:3])
    session.undo()
    before = session.prob
    seen = session.peek(*FIVE[4])
    assert np.array_equal(seen, opened(model, [*FIVE[:2], FIVE[4]]).mask)
    assert not np.array_equal(seen, session.mask) and np.array_equal(session.prob, before)
    session.redo()
    assert np.array_equal(session.prob, opened(model, FIVE[:3]).prob)


def test_fractions_are_rounded_to_the_nearest_pixel(model):
    session = opened(model)
    session.add_click(100.6, 59.4)
    assert session.clicks[0] == fdrn_adapter.session.SessionClick(101, 59, True)
    session.add_click(239.9, 159.9)
    assert session.clicks[1] == fdrn_adapter.session.SessionClick(239, 159, True)
    with pytest.raises(ValueError, match="outside"):
        session.add_click(float("nan"), 3)


def test_masks_of_0_and_255(model):
    session = opened(model)
    mask = np.zeros((160, 240), np.uint8)
    mask[50:90, 80:120] = 255
    session.set_mask(mask)
    assert np.array_equal(session.mask, mask == 255)
    mask[0, 0] = 3
    with pytest.raises(ValueError, match="instances == label"):
        session.set_mask(mask)


def test_the_score_is_the_mean_probability_inside(model):
    session = opened(model)
    assert session.score == 0
    session.add_click(*FIVE[0])
    assert session.mask.any()
    assert session.score == pytest.approx(session.prob[session.mask].mean(), abs=1e-6)


def test_objects_of_images_that_were_left_are_kept_within_cache_bytes(model):
    images = [np.roll(picture(), 20 * i, axis=1) for i in range(4)]
    held = 4 * images[0][..., 0].size  # of a step, and there are three: two clicks, and before
    for cache_bytes, known in ((9 * held, [1, 2, 3]), (6 * held, [2, 3]), (0, [3])):
        session = fdrn_adapter.InteractiveSession(model, crop=64, cache_bytes=cache_bytes)
        for image in images:
            session.set_image(image)
            session.add_click(96, 72)
            session.add_click(30, 20, False)
        assert session.nbytes == session.image_nbytes + 3 * held
        session.set_image(np.zeros((5, 5, 3), np.uint8))
        kept = []
        for number, image in enumerate(images):
            session.set_image(image, resume=True)
            kept += [number] if session.clicks else []
        assert kept == known
