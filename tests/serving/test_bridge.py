"""The bridge: masks are those of clicks one by one in the merged order; images are encoded once."""

import threading

import numpy as np
import pytest
from support.stock import NARROW, picture, taught_host

import fdrn_adapter
from fdrn_adapter.serving.bridge import PromptSession, UnknownImageError
from fdrn_adapter.serving.prompts import merged, scribble_points
from fdrn_adapter.session import SessionClick

A, B, C, D = (96, 72), (100, 80), (200, 100), (30, 20)  # the last two are off the object


@pytest.fixture(scope="module")
def model():
    return fdrn_adapter.wrap(taught_host("tiny"), init="paper", **NARROW)


@pytest.fixture
def encoded(model):
    seen = []
    hook = model.image_encoder.register_forward_pre_hook(lambda m, a: seen.append(a[0].shape))
    yield seen
    hook.remove()


@pytest.fixture
def bridge(model):
    return PromptSession(model, crop=64)


def by_clicks(model, clicks, image=None, begin=None):
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    session.set_image(picture() if image is None else image)
    if begin is not None:
        begin(session)
    for (x, y), positive in clicks:
        session.add_click(x, y, positive)
    return session.mask


def as_pairs(answer):
    return [((c.x, c.y), c.positive) for c in answer.clicks]


def test_one_more_one_less_and_several_more(model, bridge, encoded):
    image = picture()
    steps = [
        (([A], []), 1), (([A, B], []), 1), (([A, B], [C]), 1), (([A, B], []), 0),
        (([A, B], [D]), 1), (([A, B], [C]), 0), (([A], [C, D]), 2), (([A, B], [D, C]), 1),
    ]
    for (positive, negative), computed in steps:
        answer = bridge.predict(image, positive, negative)
        mask, score = answer
        assert answer.computed == computed, (positive, negative)
        assert sorted(as_pairs(answer)) == sorted(
            [(p, True) for p in positive] + [(n, False) for n in negative])
        assert np.array_equal(mask, by_clicks(model, as_pairs(answer)))
        assert 0.5 < score < 1
    assert len(encoded) == 1 + len(steps)  # the bridge's one, and those of the sessions beside it


def test_lists_are_taken_in_the_order_in_which_they_grew(bridge):
    image = picture()
    bridge.predict(image, [A])
    bridge.predict(image, [A], [C])
    answer = bridge.predict(image, [A, B], [C])
    assert as_pairs(answer) == [(A, True), (C, False), (B, True)] and answer.computed == 1
    bridge.forget()
    again = bridge.predict(image, [A, B], [C])
    assert as_pairs(again) == [(A, True), (B, True), (C, False)]
    told = bridge.predict(image, [A, B], [C], previous=answer.clicks)
    assert as_pairs(told) == as_pairs(answer) and np.array_equal(told.mask, answer.mask)


def test_other_images_and_back(model, bridge, encoded):
    images = [np.roll(picture(), shift, axis=1) for shift in (0, 40, 80)]
    clicks = [((96 + shift, 72), True) for shift in (0, 40, 80)]
    for image, click in zip(images, clicks, strict=True):
        bridge.predict(image, [click[0]])
    assert len(encoded) == 3
    for image, click in zip(images, clicks, strict=True):
        answer = bridge.predict(image, [click[0]], [D])
        assert answer.computed == 1
        assert np.array_equal(answer.mask, by_clicks(model, [click, (D, False)], image))
    assert len(encoded) == 6  # three by the sessions beside


def test_keys_stand_for_images(bridge, encoded):
    asked = []

    def image():
        asked.append(1)
        return picture()

    first = bridge.predict(image, [A], image_key="task 7")
    bridge.predict(image, [A, B], image_key="task 7")
    bridge.predict(None, [A, B], image_key="task 7")
    assert len(asked) == len(encoded) == 1 and first.image_key == "task 7"
    with pytest.raises(UnknownImageError, match="'task 8' is not known"):
        bridge.predict(None, [A], image_key="task 8")
    unnamed = bridge.predict(picture(), [A])
    assert bridge.predict(None, [A], image_key=unnamed.image_key).computed == 0


def test_masks_boxes_and_scribbles_start_objects(model, bridge):
    image, box = picture(), (150, 90, 239, 159)
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[50:90, 80:120] = 255
    alone = bridge.predict(image, mask=mask)
    assert np.array_equal(alone.mask, mask > 0) and alone.clicks == ()
    answer = bridge.predict(image, [A], mask=mask)
    assert np.array_equal(answer.mask, by_clicks(model, [(A, True)], None,
                                                 lambda s: s.set_mask(mask)))
    boxed = bridge.predict(image, box=box)
    assert np.array_equal(boxed.mask, by_clicks(model, [], None, lambda s: s.set_box(*box)))
    more = bridge.predict(image, negative=[C], box=box)
    assert more.computed == 1 and np.array_equal(
        more.mask, by_clicks(model, [(C, False)], None, lambda s: s.set_box(*box)))
    assert np.array_equal(bridge.predict(image, box=box).mask, boxed.mask)
    line = [(80, 72), (110, 72)]
    drawn = bridge.predict(image, scribbles=[(line, True)])
    points = [((round(x), round(y)), True) for x, y in scribble_points(line)]
    assert np.array_equal(drawn.mask, by_clicks(model, points))
    assert not np.array_equal(drawn.mask, boxed.mask)


def test_peeking_makes_no_click(model, bridge):
    image = picture()
    bridge.predict(image, [A, B])
    seen = bridge.peek(*C, False, image=image, prompts={"positive": [A]})
    assert np.array_equal(seen, by_clicks(model, [(A, True), (C, False)]))
    assert bridge.predict(image, [A, B]).computed == 0
    assert bridge.predict(image, [A], [C]).computed == 1
    assert bridge.peek(*A, image=image).any()


def test_bad_prompts_leave_the_object(bridge):
    image = picture()
    bridge.predict(image, [A])
    for prompts, message in [
        ({}, "no prompt"), ({"positive": [(500, 3)]}, "outside the image"),
        ({"positive": [A], "box": (1, 2, 3)}, "box is four numbers"),
        ({"positive": ["ab"]}, "click is two numbers"), ({"positive": [(1,)]}, "two numbers"),
        ({"box": (1, 1, 5, 5), "mask": np.zeros((160, 240))}, "not from both"),
        ({"mask": np.zeros((3, 3))}, "shape"), ({"box": (300, 0, 400, 9)}, "outside of the image"),
        ({"positive": [(float("nan"), 1)]}, "outside"),
    ]:
        with pytest.raises(ValueError, match=message):
            bridge.predict(image, **prompts)
    assert bridge.predict(image, [A]).computed == 0
    with pytest.raises(ValueError, match="Give an image"):
        bridge.predict(positive=[A])


def test_images_that_cannot_be_read_are_not_remembered(bridge):
    with pytest.raises(ValueError, match="not an image"):
        bridge.predict(lambda: b"nothing", [A], image_key="k")
    assert bridge.image_keys == ()
    assert bridge.predict(picture, [A], image_key="k").computed == 1


def test_memory_is_bounded_and_what_was_dropped_is_replayed(model, encoded):
    one = PromptSession(model, crop=64)
    one.predict(picture(), [A])
    limit = 5 * one.nbytes
    bridge = PromptSession(model, limit, crop=64)
    images = [np.roll(picture(), 3 * i, axis=0) for i in range(12)]
    masks = [bridge.predict(image, [A], [C]).mask for image in images]
    assert bridge.nbytes <= limit and len(bridge.image_keys) < 12
    before = len(encoded)
    answer = bridge.predict(images[0], [A], [C])
    assert answer.computed == 2 and len(encoded) == before + 1
    assert np.array_equal(answer.mask, masks[0])
    for i in range(40):  # objects of one image
        bridge.predict(images[0], [(90 + i % 8, 70 + i // 8)])
    assert bridge.nbytes <= limit
    assert np.array_equal(bridge.predict(images[0], [A], [C]).mask, masks[0])
    tiny = PromptSession(model, 0, crop=64)
    assert np.array_equal(tiny.predict(images[0], [A], [C]).mask, masks[0])


@pytest.mark.slow  # test_server's users are many, too
def test_threads_on_few_images_get_the_serial_masks(model, encoded):
    images = [np.roll(picture(), 30 * i, axis=1) for i in range(2)]
    rng = np.random.default_rng(0)
    requests = []
    for _ in range(40):
        k = int(rng.integers(2))
        points = [(int(x), int(y)) for x, y in rng.integers((60, 50), (140, 100), (3, 2))]
        requests.append((k, points[: rng.integers(1, 4)]))
    want = [by_clicks(model, [(p, True) for p in points], images[k]) for k, points in requests]
    encoded.clear()
    bridge, got = PromptSession(model, crop=64), [None] * len(requests)

    def work(start):
        for i in range(start, len(requests), 4):
            got[i] = bridge.predict(images[requests[i][0]], requests[i][1]).mask

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(encoded) == 2
    assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))


def test_objects_of_an_image_do_not_wait_for_each_other(model, bridge):
    """One request is held up in the network; others go on, and those on its object wait for it."""
    image, held, go = picture(), threading.Event(), threading.Event()
    bridge.open(image)

    def hold(module, given):
        if threading.current_thread().name == "held":
            held.set()
            assert go.wait(60)

    hook = model.register_forward_pre_hook(hold)
    got = {}

    def ask(name, positive):
        def work():
            got[name] = bridge.predict(image, positive)
        thread = threading.Thread(target=work, name=name)
        thread.start()
        return thread

    try:
        first = ask("held", [A])
        assert held.wait(60)
        ask("other", [D]).join(60)
        assert set(got) == {"other"}
        waiting = ask("same object", [A, B])
        waiting.join(0.5)
        assert set(got) == {"other"}
    finally:
        go.set()
        hook.remove()
    for thread in (first, waiting):
        thread.join(60)
    assert got["held"].computed == got["same object"].computed == 1
    for name, clicks in (("held", [A]), ("other", [D]), ("same object", [A, B])):
        assert np.array_equal(got[name].mask, by_clicks(model, [(p, True) for p in clicks]))


def test_a_click_that_fails_is_not_known(model, bridge):
    image = picture()
    bridge.predict(image, [A])
    failing = [B]

    def fail(module, given):
        if failing:
            raise MemoryError("no memory")

    hook = model.register_forward_pre_hook(fail)
    try:
        for prompts in ([A, B], [B]):
            with pytest.raises(MemoryError):
                bridge.predict(image, prompts)
        failing.clear()
        assert bridge.predict(image, [A]).computed == 0
        assert bridge.predict(image, [A, B]).computed == 1
        assert bridge.predict(image, [B]).computed == 1
    finally:
        hook.remove()
    assert np.array_equal(bridge.predict(image, [A, B]).mask,
                          by_clicks(model, [(A, True), (B, True)]))


def test_merging():
    p, q, n = SessionClick(1, 1, True), SessionClick(2, 2, True), SessionClick(3, 3, False)
    assert merged((), [p, q], [n]) == (0, [p, q, n])
    assert merged([p, n], [p, q], [n]) == (2, [p, n, q])
    assert merged([p, n, q], [p], [n]) == (2, [p, n])
    assert merged([p, n, q], [p, q], []) == (1, [p, q])
    assert merged([p, p], [p, p, p], []) == (2, [p, p, p])


def test_scribbles_are_evenly_spaced_from_the_middle():
    assert scribble_points([(5, 6)]) == [(5, 6)]
    points = scribble_points([(0, 0), (60, 0), (60, 60)], 40)
    assert points == [(60, 0), (20, 0), (60, 40)]
    with pytest.raises(ValueError, match="one point"):
        scribble_points([])
