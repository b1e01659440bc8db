"""Any order of calls, with any arguments, against a list of clicks: a session keeps its promises.

FDRN_FUZZ_STEPS: so many calls instead of some hundred (20000 take a quarter of an hour).
"""

import os

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from support.stock import picture, taught_host

import fdrn_adapter
from fdrn_adapter.features.cache import FeatureCache

pytestmark = pytest.mark.usefixtures("ritm")
LENGTH = 40
EXAMPLES = max(3, int(os.environ.get("FDRN_FUZZ_STEPS", "0")) // LENGTH // 2)  # of two kinds
DOCUMENTED = (ValueError, RuntimeError, IndexError)
IMAGES = [picture(), picture()[::-1, ::3], np.full((1, 1, 3), 7, np.uint8), picture()[:5, :, 0],
          picture()[:, :1]]
inside = st.one_of(st.integers(0, 30), st.integers(0, 159), st.floats(0, 30))
numbers = st.one_of(inside, inside, inside, st.integers(-3, 250), st.floats(-2, 250), st.floats(),
                    st.sampled_from([None, "x", 1e300, True]))
signs = st.one_of(st.booleans(), st.booleans(), st.booleans(),
                  st.sampled_from([0, 1, -1, "no", None, float("nan"), np.True_]))
names = st.sampled_from(["object 1", "object 2", "object 3", "b", ""])
anything = st.one_of(
    arrays.arrays(
        st.one_of(arrays.scalar_dtypes(), st.just(np.dtype(object))),
        arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=12),
    ),
    st.none(), st.text(max_size=8), st.binary(max_size=200), st.lists(st.integers(), max_size=3),
)
COUNT = {"calls": 0, "errors": 0}


class Calls(RuleBasedStateMachine):
    """A session, and beside it what it should know: the size, and each object's clicks."""

    model = None

    def __init__(self):
        super().__init__()
        self.session = fdrn_adapter.InteractiveSession(
            self.model, crop=32, feature_cache=FeatureCache(2**24)
        )
        self.size, self.clicks = None, []

    def call(self, function, *args, **kwargs):
        """Whether a call was made; otherwise nothing may have changed."""
        COUNT["calls"] += 1
        before = self.told()
        try:
            function(*args, **kwargs)
        except DOCUMENTED as error:
            assert str(error)
            COUNT["errors"] += 1
            assert before == self.told()
            return False
        return True

    def told(self):
        session = self.session
        if session.image is None:
            return None
        return (session.image.shape, session.objects, session.current_object, session.clicks,
                session.prob.tobytes())

    @initialize(image=st.sampled_from([None, *IMAGES, *IMAGES]))
    def start(self, image):
        if image is not None:
            self.set_image(image, False)

    @rule(image=st.sampled_from(IMAGES), resume=st.booleans())
    def set_image(self, image, resume):
        assert self.call(self.session.set_image, image, resume=resume)
        self.size = image.shape[:2]
        if not resume:
            assert self.session.clicks == () and self.session.objects == ("object 1",)

    @rule(image=anything)
    def set_anything(self, image):
        if self.call(self.session.set_image, image):
            self.size = self.session.image.shape[:2]

    @rule(x=numbers, y=numbers, positive=signs)
    def add_click(self, x, y, positive):
        before = self.session.clicks
        if self.call(self.session.add_click, x, y, positive):
            now = self.session.clicks
            assert now[:-1] == before and now[-1].positive == bool(positive)
            assert 0 <= now[-1].x < self.size[1] and abs(now[-1].x - x) <= 0.5 or x > now[-1].x

    @rule()
    def undo_and_redo(self):
        before = self.told()
        if self.call(self.session.undo):
            self.session.redo()
            assert self.told() == before
            self.session.undo()

    @rule()
    def redo(self):
        before = self.told()
        if self.call(self.session.redo):
            self.session.undo()
            assert self.told() == before
            self.session.redo()

    @rule(index=st.integers(-4, 4), x=numbers, y=numbers)
    def move_click(self, index, x, y):
        count = len(self.session.clicks)
        if self.call(self.session.move_click, index, x, y):
            assert len(self.session.clicks) == count

    @rule(index=st.integers(-4, 4))
    def remove_click(self, index):
        count = len(self.session.clicks)
        if self.call(self.session.remove_click, index):
            assert len(self.session.clicks) == count - 1

    @rule(x=numbers, y=numbers, positive=signs)
    def peek(self, x, y, positive):
        before = self.told()
        self.call(self.session.peek, x, y, positive)
        assert self.told() == before

    @rule(kind=st.sampled_from(["ones", "half", "random", "wrong"]), seed=st.integers(0, 99))
    def set_mask(self, kind, seed):
        size = self.size or (4, 4)
        values = np.random.default_rng(seed).random(size)
        mask = {"ones": values < 2, "half": values < 0.5, "random": values,
                "wrong": values.T[:-1]}[kind]
        if self.call(self.session.set_mask, mask):
            assert self.session.clicks == ()

    @rule(mask=anything)
    def set_any_mask(self, mask):
        self.call(self.session.set_mask, mask)

    @rule(x1=numbers, y1=numbers, x2=numbers, y2=numbers)
    def set_box(self, x1, y1, x2, y2):
        self.call(self.session.set_box, x1, y1, x2, y2)

    @rule(name=st.one_of(st.none(), names))
    def add_object(self, name):
        if len(self.session.objects) < 5:
            self.call(self.session.add_object, name)

    @rule(name=names)
    def select_object(self, name):
        self.call(self.session.select_object, name)

    @rule(name=names)
    def delete_object(self, name):
        self.call(self.session.delete_object, name)

    @rule(name=names, other=names)
    def rename_object(self, name, other):
        self.call(self.session.rename_object, name, other)

    @rule(count=st.integers(-1, 4))
    def copy_object(self, count):
        if len(self.session.objects) < 5:
            self.call(self.session.copy_object, count)

    @rule()
    def reset_object(self):
        if self.call(self.session.reset_object):
            assert self.session.clicks == () and not self.session.mask.any()

    @rule()
    def give_features_back(self):
        if self.size is not None:
            self.session.set_features(self.session.get_features())

    @invariant()
    def results_fit_the_image(self):
        session = self.session
        if self.size is None:
            assert session.image is None and session.clicks == ()
            return
        assert session.image.shape == (*self.size, 3)
        prob, mask = session.prob, session.mask
        assert prob.shape == mask.shape == session.label_map().shape == self.size
        assert prob.dtype == np.float32 and prob.min() >= 0 and prob.max() <= 1
        assert np.array_equal(mask, prob > session.threshold)
        assert session.current_object in session.objects
        assert len(set(session.objects)) == len(session.objects)


@pytest.mark.parametrize("kind", ["fdrn", "stock"])
def test_any_order_of_calls(kind):
    torch.manual_seed(0)
    host = taught_host("tiny", 32)
    Calls.model = host if kind == "stock" else \
        fdrn_adapter.wrap(host, init="paper", encoder="hrnet18s").eval()
    COUNT.update(calls=0, errors=0)
    options = settings(
        max_examples=EXAMPLES, stateful_step_count=LENGTH, deadline=None, derandomize=True,
        suppress_health_check=list(HealthCheck), database=None, print_blob=True,
    )
    run_state_machine_as_test(Calls if kind == "fdrn" else StockCalls, settings=options)
    print(f"{kind}: {EXAMPLES} sequences, {COUNT['calls']} calls, {COUNT['errors']} of them "
          "documented errors")
    assert COUNT["calls"] > EXAMPLES * LENGTH / 4


class StockCalls(Calls):
    """Without features."""

    give_features_back = None
