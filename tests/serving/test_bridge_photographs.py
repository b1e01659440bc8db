"""The bridge on photographs (FDRN_GRABCUT_ROOT, a GrabCut folder): masks are those of clicks.

They print their figures: run with -s.
"""

import os
import statistics
import time

import numpy as np
import pytest
from support.grabcut import grabcut_samples

from fdrn_adapter import zoo
from fdrn_adapter.evaluation.clicks import ClickSimulator
from fdrn_adapter.serving.bridge import PromptSession
from fdrn_adapter.session import InteractiveSession

pytest.importorskip("ritm_annotation")
pytestmark = pytest.mark.slow

MODEL = os.environ.get("FDRN_SERVED_MODEL", "distilled-hrnet18s")
ENGINE = os.environ.get("FDRN_SERVED_ENGINE", "eager")
SMALL = "lite-fdrn-context"  # for what holds for any network
CLICKS = (1, 2, 3, 5, 8)


@pytest.fixture(scope="module")
def photographs():
    return grabcut_samples()


@pytest.fixture(scope="module")
def model():
    return zoo.load(MODEL)


def sequence(rng, size, number):
    """Clicks of both signs anywhere on the picture, some of them on one pixel."""
    rows, cols = size
    points = np.stack([rng.integers(cols, size=number), rng.integers(rows, size=number)], 1)
    if rng.random() < 0.2:
        points[-1] = points[0]
    signs = rng.random(number) < 0.6
    signs[0] = True
    return [((int(x), int(y)), bool(s)) for (x, y), s in zip(points, signs, strict=True)]


def requests_of(rng, clicks):
    """Numbers of clicks in requests that end with all: one more, several more, some undone."""
    made, asked = 0, []
    while made < len(clicks):
        undo = made > 1 and rng.random() < 0.25
        made = made - int(rng.integers(1, made)) if undo else \
            min(len(clicks), made + int(rng.choice([1, 1, 1, 2, 3])))
        asked.append(made)
    return asked


def split(clicks, sign):
    return [point for point, positive in clicks if positive is sign]


def test_random_sequences_in_random_requests(photographs):
    """200 sequences, going back and forth between images: equal masks, one encoding an image."""
    model = zoo.load(SMALL)
    rng = np.random.default_rng(0)
    encoded = []
    hook = model.image_encoder.register_forward_pre_hook(lambda m, a: encoded.append(1))
    bridge = PromptSession(model, 4 * 2**30, engine="eager")
    open_now, waiting = [], []
    for i in range(200):
        image = photographs[i % len(photographs)].image
        clicks = sequence(rng, image.shape[:2], int(rng.integers(2, 7)))
        waiting.append((image, clicks, requests_of(rng, clicks)))
    answers, sent = [], 0
    while waiting or open_now:  # four at a time, whose requests come in any order
        while waiting and len(open_now) < 4:
            open_now.append(waiting.pop(0))
        image, clicks, asked = open_now[int(rng.integers(len(open_now)))]
        part = clicks[: asked.pop(0)]
        answer = bridge.predict(image, split(part, True), split(part, False))
        sent += 1
        answers.append((image, part, answer))
        open_now = [entry for entry in open_now if entry[2]]
    hook.remove()
    assert len(encoded) == len(photographs)
    session = InteractiveSession(model, engine="eager")
    in_order = 0
    for image, part, answer in answers:
        session.set_image(image)
        session.add_clicks((c.x, c.y, c.positive) for c in answer.clicks)
        assert np.array_equal(session.mask, answer.mask)
        in_order += [((c.x, c.y), c.positive) for c in answer.clicks] == part
    print(f"\n{sent} requests of 200 sequences: all masks equal, {len(encoded)} encodings of "
          f"{len(photographs)} images; {in_order} in the order in which the clicks were made")


def test_all_prompts_at_once_are_as_good_as_one_by_one(photographs, model):
    """The table of docs/integrations.md: mIoU after k clicks."""
    one_by_one, grown, replayed = ([[] for _ in CLICKS] for _ in range(3))
    session = InteractiveSession(model, ENGINE)
    bridge, fresh = (PromptSession(model, engine=ENGINE) for _ in range(2))
    for sample in photographs:
        session.set_image(sample.image)
        simulator, clicks = ClickSimulator(sample.mask), []
        mask = np.zeros(sample.mask.shape, bool)
        for number in range(1, CLICKS[-1] + 1):
            click = simulator.next(mask)
            simulator.add(click)
            clicks.append(((click.x, click.y), click.positive))
            mask = session.add_click(click.x, click.y, click.positive)
            lists = split(clicks, True), split(clicks, False)
            more = bridge.predict(sample.image, *lists).mask
            if number in CLICKS:
                fresh.forget()
                all_anew = fresh.predict(sample.image, *lists).mask
                for table, found in ((one_by_one, mask), (grown, more), (replayed, all_anew)):
                    table[CLICKS.index(number)].append(iou(found, sample.mask))
    for name, table in (("one by one", one_by_one), ("bridge, as they come", grown),
                        ("bridge, all at once", replayed)):
        print(f"\n{name:22s}" + " ".join(f"{np.mean(values):.3f}" for values in table), end="")
    assert one_by_one == grown
    assert abs(np.mean(one_by_one) - np.mean(replayed)) < 0.01


def test_one_more_click_runs_the_network_once(photographs, model):
    """Times of add_click and of a request with one more click, in turns: their ratio is printed."""
    session, bridge = InteractiveSession(model, ENGINE), PromptSession(model, engine=ENGINE)
    session.warm_up()
    times = {"click": [], "request": [], "request by key": []}
    for sample in photographs[:10]:
        rng = np.random.default_rng(len(times["click"]))
        clicks = sequence(rng, sample.image.shape[:2], 9)
        session.set_image(sample.image)
        key = bridge.predict(sample.image, split(clicks[:1], True)).image_key
        named = PromptSession(model, engine=ENGINE)
        named.predict(sample.image, split(clicks[:1], True), image_key=key)
        session.add_click(*clicks[0][0], clicks[0][1])
        for number in range(2, len(clicks) + 1):
            (x, y), positive = clicks[number - 1]
            lists = split(clicks[:number], True), split(clicks[:number], False)
            for name, ask, given in (
                ("click", session.add_click, (x, y, positive)),
                ("request", bridge.predict, (sample.image, *lists)),
                ("request by key", named.predict, (None, *lists, None, None, key)),
            ):
                start = time.perf_counter()
                answer = ask(*given)
                times[name].append(time.perf_counter() - start)
                assert name == "click" or answer.computed == 1
    half = {name: statistics.median(found) * 1e3 for name, found in times.items()}
    print("\n" + ", ".join(f"{name} {ms:.2f} ms ({ms / half['click']:.2f} of a click)"
                           for name, ms in half.items()))


def iou(found, truth):
    counts, truth = truth != -1, truth == 1
    return (found & truth & counts).sum() / ((found | truth) & counts).sum()
