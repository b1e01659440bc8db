"""The lean FocalClick predictor against the stock one; real checkout only."""

import numpy as np
import pytest
import torch
from support.focalclick import (
    clickseg,
    focal_predictor_class,
    run_clicks,
    run_pipeline,
    taught,
    teach,
    zoom_in,
)
from support.stock import CLICKS, NARROW, picture

import fdrn_adapter
from fdrn_adapter.session import lean_focalclick
from fdrn_adapter.session.focus_crop import Part, focus_crop
from fdrn_adapter.session.pipeline import Pipeline
from fdrn_adapter.session.predictor import recycling_predictor_for
from fdrn_adapter.session.regions import union

# More than ten, from when on only the focus crop changes; one far from the object.
MANY = [*CLICKS, (70, 60, True), (90, 120, False), (5, 235, False), (60, 110, True)]


@pytest.fixture(autouse=True, scope="module")
def checkout():
    with clickseg() as code_base:
        yield code_base


@pytest.fixture(scope="module")
def host(checkout):
    return taught("b0", "s2")


def lean(net, **options):
    model = getattr(net, "info", None)
    info = model or fdrn_adapter.hosts.describe_host(net)
    return Pipeline(net, info, torch.device("cpu"), **{"flip": False, **options})


@pytest.mark.parametrize("wrapped", [False, True], ids=["stock", "fdrn"])
@pytest.mark.parametrize("flip", [False, True], ids=["", "flip"])
def test_probabilities_are_the_stock_predictors(host, wrapped, flip):
    if wrapped:
        model = teach(fdrn_adapter.wrap(host, init="paper", **NARROW).eval())
        stock = recycling_predictor_for(
            focal_predictor_class(), model, "cpu", zoom_in=zoom_in(skip_clicks=-1), infer_size=64,
            with_flip=flip,
        )
        ours = lean(model, crop=64, flip=flip)
        clicks = MANY
    else:
        stock = focal_predictor_class()(
            host, "cpu", zoom_in=zoom_in(), infer_size=256, with_flip=flip
        )
        ours = lean(host, crop=None, flip=flip)  # the stock zoom-in, from the second click on
        clicks = MANY[:3] if flip else MANY
    want, where = run_clicks(stock, picture(), clicks)
    got, ours_where = run_pipeline(ours, picture(), clicks)
    assert len({roi for roi, _ in where}) > 1 and len({focus for _, focus in where}) > 2
    assert ours_where == where
    assert np.abs(got - want).max() < 1e-5  # one click alone: 1e-7, for rounding
    assert np.abs(np.diff(want, axis=0)).max(axis=(1, 2)).min() > 1e-3  # every click matters


@pytest.mark.parametrize("is_lean", [True, False], ids=["lean", "stock"])
def test_whole_image_is_not_touched_for_a_click(host, is_lean, monkeypatch):
    """A large image with a small object: no operation on more pixels than a part of it has."""
    if not is_lean:
        monkeypatch.setattr(lean_focalclick, "STRATEGY", "get_another_crop")
    rows, cols = 1200, 1600
    image = np.zeros((rows, cols, 3), np.uint8)
    image[:160, :240] = picture()
    session = fdrn_adapter.InteractiveSession(fdrn_adapter.wrap(host), crop=64)
    session.set_image(image)
    mask = np.zeros((rows, cols), bool)
    mask[50:90, 70:120] = True
    session.set_mask(mask)
    seen = []

    class Sizes(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor) and not out._is_view() and out.numel():
                seen.append((out.untyped_storage().nbytes() // out.element_size(), func))
            return out

    with Sizes():
        session.add_click(96, 72)
        session.add_click(100, 75, positive=False)
    allowed = ("from_numpy", "to", "detach", "__get__", "contiguous")  # share or wrap the result
    large = {f.__name__ for n, f in seen if n >= rows * cols} - set(allowed)
    assert len(seen) > 100 and bool(large) != is_lean
    assert session.prob[:200, :300].std() > 0.01


def random_mask(rng, size, box):
    """Blobs within a box of rows and columns, none outside."""
    import cv2

    mask = np.zeros(size, np.float32)
    h, w = box[1] - box[0], box[3] - box[2]
    if h > 0 and w > 0:
        noise = rng.normal(size=(max(2, h // 6), max(2, w // 6))).astype(np.float32)
        mask[box[0] : box[1], box[2] : box[3]] = cv2.resize(noise, (w, h)) > rng.uniform(-1, 1.5)
    return mask


def random_box(rng, size):
    ends = [sorted(rng.integers(0, n + 1, 2)) for n in size]
    return tuple(int(v) for pair in ends for v in pair)


def test_the_focus_crop_is_the_stock_one():
    from isegm.utils import crop_local

    rng, size = np.random.default_rng(0), (61, 83)
    differing, unchanged, cases, empty = set(), 0, 0, 0
    for turn in range(3000):
        boxes = [random_box(rng, size) for _ in range(2)]
        if turn % 3 == 0:  # windows that end with the image, and whole ones
            boxes = [(0, size[0], b[2], b[3]) for b in boxes]
        if boxes[0][0] == boxes[0][1] or boxes[0][2] == boxes[0][3]:
            continue
        now, before = (random_mask(rng, size, b) for b in boxes)
        click = tuple(int(rng.integers(0, n)) for n in size)
        want = crop_local.get_focus_cropv1(now, before, boxes[0], *click, 1.4)
        parts = [
            Part(torch.from_numpy(m[None, None, b[0] : b[1], b[2] : b[3]]), b, 0.5)
            for m, b in zip((now, before), boxes, strict=True)
        ]
        got = focus_crop(crop_local, *parts, size, boxes[0], click, 1.4)
        if want[0] < want[1] and want[2] < want[3]:
            assert got == tuple(want), (turn, boxes, click)
        else:  # the stock code fails on it; ours is a pixel at least of what was zoomed into
            top, bottom, left, right = got
            assert boxes[0][0] <= top < bottom <= boxes[0][1], (turn, boxes, click)
            assert boxes[0][2] <= left < right <= boxes[0][3], (turn, boxes, click)
            empty += 1
        cases += 1
        differing.add(got)
        unchanged += (now > 0)[click] == (before > 0)[click]
    assert cases > 2000 and len(differing) > 1000 and 200 < unchanged < cases - 200
    assert 0 < empty < cases / 3


def test_unions_of_boxes():
    assert union((2, 5, 3, 9), (4, 8, 1, 4)) == (2, 8, 1, 9)
    assert union((0, 0, 0, 0), (4, 8, 1, 4)) == (4, 8, 1, 4) == union((4, 8, 1, 4), (3, 3, 0, 9))


def test_another_predictor_loop_is_left_alone(host, monkeypatch):
    monkeypatch.setattr(lean_focalclick, "STRATEGY", "get_another_crop")
    ours = lean(host, crop=64).predictor
    assert type(ours) is focal_predictor_class()
    probs, _ = run_clicks(ours, picture(), CLICKS[:2])
    assert probs.shape == (2, *picture().shape[:2])


@pytest.mark.parametrize("size", [(1, 300), (40, 1), (1, 1), (3, 2)])
def test_images_of_one_row_or_column_take_masks_and_clicks(host, size):
    """The stock code fails there: its focus crop has no pixel."""
    model = fdrn_adapter.wrap(host, init="paper").eval()
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    session.set_image(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))
    for mask in (np.ones(size, bool), np.indices(size).sum(0) % 2 == 0, np.zeros(size, bool)):
        session.set_mask(mask)
        for x, y in ((0, 0), (size[1] - 1, size[0] - 1)):
            assert session.add_click(x, y).shape == size
            assert session.add_click(x, y, positive=False).shape == size
        assert np.isfinite(session.prob).all()


def test_focus_crops_have_a_pixel_and_lie_within_the_limits(checkout):
    from isegm.utils import crop_local

    rng = np.random.default_rng(0)
    for _ in range(300):
        size = tuple(int(n) for n in rng.integers(1, 30, 2))
        limits = []
        for side in size:
            first = int(rng.integers(0, side))
            limits += [first, int(rng.integers(first + 1, side + 1))]
        box = (0, size[0], 0, size[1])
        now, before = (Part(torch.rand(1, 1, *size), box, t) for t in rng.random(2))
        click = tuple(int(rng.integers(0, side)) for side in size)
        y1, y2, x1, x2 = focus_crop(crop_local, now, before, size, tuple(limits), click, 1.4)
        assert limits[0] <= y1 < y2 <= limits[1] and limits[2] <= x1 < x2 <= limits[3]
