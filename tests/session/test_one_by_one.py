"""A session's calls: one after the other, each done or not done at all, however they end."""

import copy
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from support.stock import CLICKS, picture, taught_host

import fdrn_adapter
from fdrn_adapter.features.cache import FeatureCache
from fdrn_adapter.session.one_by_one import one_by_one

CROP = 32
PACKAGE = str(Path(fdrn_adapter.__file__).parent)
OTHER = np.roll(picture(), 31, axis=1)


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("ritm_annotation")
    torch.manual_seed(0)
    return fdrn_adapter.wrap(taught_host("tiny"), init="paper", encoder="hrnet18s").eval()


CACHE = FeatureCache()  # encoding is not what is tested here


def opened(model, **options):
    session = fdrn_adapter.InteractiveSession(model, crop=CROP, feature_cache=CACHE, **options)
    session.set_image(picture())
    return session


def clicked(model, **options):
    """Two objects; the current one has two clicks and one that is undone."""
    session = opened(model, **options)
    for row, col, positive in CLICKS[:3]:
        session.add_click(col, row, positive)
    session.add_object("second")
    for row, col, positive in CLICKS[2:5]:
        session.add_click(col, row, positive)
    session.undo()
    return session


def told(session):
    """All that a caller can see, redo included."""
    seen = [session.image.tobytes(), session.objects, session.current_object, session.clicks,
            session.prob.tobytes(), session.mask.tobytes(), session.label_map().tobytes()]
    while session._now + 1 < len(session._history):
        seen.append(session.redo().tobytes())
    while session.clicks:
        seen.append(session.undo().tobytes())
    return seen


MASK = np.zeros(picture().shape[:2], bool)
MASK[40:90, 60:120] = True
CALLS = {
    "add_click": lambda s: s.add_click(90, 70),
    "undo": lambda s: s.undo(),
    "redo": lambda s: s.redo(),
    "set_image": lambda s: s.set_image(OTHER),
    "set_image again": lambda s: s.set_image(picture(), resume=True),
    "reset_object": lambda s: s.reset_object(),
    "set_mask": lambda s: s.set_mask(MASK),
    "set_box": lambda s: s.set_box(50, 40, 120, 100),
    "move_click": lambda s: s.move_click(0, 80, 80),
    "peek": lambda s: s.peek(80, 80),
    "select_object": lambda s: s.select_object("object 1"),
    "delete_object": lambda s: s.delete_object("second"),
    "copy_object": lambda s: s.copy_object(1),
}


class Interrupt:
    """Ctrl-C at the nth line of the package that runs; counts lines where there is no nth.

    Args:
        at: number of the line, counted from 0.
        once: count lines that run again only the first time.
    """

    def __init__(self, at=None, once=True):
        self.at, self.once, self.count, self.seen = at, once, 0, set()

    def __call__(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            place = (frame.f_code, frame.f_lineno)
            if not (self.once and place in self.seen):
                self.seen.add(place)
                self.count += 1
                if self.count - 1 == self.at:
                    sys.settrace(None)
                    raise KeyboardInterrupt
        return self

    def around(self, call, session):
        sys.settrace(self)
        try:
            call(session)
        finally:
            sys.settrace(None)


def interrupt(call, session, at, once):
    cut = Interrupt(at, once)
    try:
        cut.around(call, session)
    except KeyboardInterrupt:
        return
    assert cut.count <= at  # with caches filled there are fewer lines


def check_interrupted(model, name, step, **options):
    """At every `step`-th line of a call: as before, or as after; and a second try works."""
    call, counter = CALLS[name], Interrupt(once=options.pop("once", True))
    session = clicked(model, **options)
    before = told(clicked(model, **options))
    counter.around(call, session)
    after = told(session)
    assert counter.count > 10 and (after != before or name in ("set_image again", "peek"))
    for at in range(0, counter.count, step):
        session = clicked(model, **options)
        interrupt(call, session, at, counter.once)
        seen = told(session)
        assert seen in (before, after), (name, at)
        if step == 1 and seen == before:
            session = clicked(model, **options)
            interrupt(call, session, at, counter.once)
            call(session)
            assert told(session) == after, (name, at, "second try")


@pytest.mark.parametrize("name", CALLS)
def test_interrupted_anywhere_a_call_is_done_or_not(model, name):
    check_interrupted(model, name, step=31)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["eager", "torch"])
@pytest.mark.parametrize("name", CALLS)
def test_interrupted_at_every_line_a_call_is_done_or_not(model, name, engine):
    check_interrupted(model, name, step=1, engine=engine)


def test_features_that_were_given_outlast_a_failing_image(model):
    session = opened(model)
    other = fdrn_adapter.InteractiveSession(model, crop=CROP)
    other.set_image(255 - picture())
    given = other.get_features()
    session.set_features(given)
    assert session.get_features() is given
    mask = session.add_click(96, 72)
    with pytest.raises(ValueError, match="not an image|no image file|has no pixels|should be"):
        session.set_image(np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(fdrn_adapter.FeatureMismatchError):
        session.set_image(OTHER[:100], features=given)
    assert session.get_features() is given and np.array_equal(session.mask, mask)
    session.undo()
    assert np.array_equal(session.add_click(96, 72), mask)


def test_clicks_from_many_threads_are_all_made(model):
    session = opened(model)
    points = [(10 + 5 * i, 20 + 3 * i, i % 3 != 0) for i in range(40)]
    with ThreadPoolExecutor(4) as pool:
        masks = list(pool.map(lambda p: session.add_click(*p), points))
    assert len(masks) == 40 == len(session.clicks)
    assert sorted((c.x, c.y, c.positive) for c in session.clicks) == sorted(points)
    again = opened(model)
    for click in session.clicks:
        again.add_click(click.x, click.y, click.positive)
    assert np.array_equal(again.prob, session.prob)


def test_sessions_are_not_copied(model):
    session = opened(model)
    for way in (copy.deepcopy, copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match=r"Make another by InteractiveSession\(session.model\)"):
            way(session)


def test_every_public_method_waits_for_the_others():
    class Session:
        _lock = None

        def method(self):
            """Words."""

        @property
        def value(self):
            """Words."""

    with pytest.raises(TypeError):  # there is no lock
        one_by_one(Session)().method()
    with pytest.raises(TypeError):
        _ = Session().value
    assert Session.method.__doc__ == Session.value.__doc__ == "Words."
