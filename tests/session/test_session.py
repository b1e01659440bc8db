"""InteractiveSession on FDRN and stock networks."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from support.networks import build_host
from support.stock import (
    CLICKS,
    base_predictor,
    check_threads_equal_serial,
    picture,
    run_clicks,
    taught_host,
    zoom_in,
)

import fdrn_adapter
from fdrn_adapter.session.regions import EVERYWHERE

pytestmark = pytest.mark.usefixtures("ritm")


def random_fdrn(seed=0):
    return fdrn_adapter.wrap(taught_host("tiny"), init="paper", encoder="hrnet18s").eval()


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("ritm_annotation")
    return random_fdrn()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("kind", ["stock", "fdrn"])
def test_same_probabilities_as_the_stock_loop(kind, flip):
    host = taught_host()
    net = host if kind == "stock" else fdrn_adapter.wrap(host, encoder="hrnet18s")
    session = fdrn_adapter.InteractiveSession(net, crop=96, flip=flip)
    stock = base_predictor()(
        host, "cpu", zoom_in=zoom_in("ritm_annotation", min_crop_size=200), with_flip=flip
    )
    want, rois = run_clicks(stock, picture(), CLICKS[:5])
    session.set_image(picture())
    for (row, col, positive), expected in zip(CLICKS[:5], want, strict=True):
        mask = session.add_click(col, row, positive)
        assert np.abs(session.prob - expected).max() < 1e-5
        assert np.array_equal(mask, session.prob > 0.5)
    assert want.std() > 0.05


def test_stock_zoom_in_is_the_default_of_stock_networks():
    host = taught_host()
    session = fdrn_adapter.InteractiveSession(host)
    stock = base_predictor()(host, "cpu", zoom_in=zoom_in(
        "ritm_annotation", skip_clicks=1, target_size=400, min_crop_size=200))
    session.set_image(picture())
    want, _ = run_clicks(stock, picture(), CLICKS[:2])
    for row, col, positive in CLICKS[:2]:
        session.add_click(col, row, positive)
    assert np.array_equal(session.prob, want[-1])
    with pytest.raises(RuntimeError, match="has no image features; wrap it"):
        session.get_features()


def test_undo_and_redo_are_exact(model):
    session = fdrn_adapter.InteractiveSession(model, crop=96)
    session.set_image(picture())
    with pytest.raises(RuntimeError, match="no click to undo"):
        session.undo()
    probs = [session.prob]
    for row, col, positive in CLICKS[:4]:
        session.add_click(col, row, positive)
        probs.append(session.prob)
    assert not any(np.array_equal(a, b) for a, b in zip(probs, probs[1:], strict=False))
    for n in (3, 2, 1, 0):
        session.undo()
        assert np.array_equal(session.prob, probs[n]) and len(session.clicks) == n
    for n in (1, 2, 3, 4):
        session.redo()
        assert np.array_equal(session.prob, probs[n])
    with pytest.raises(RuntimeError, match="no undone click"):
        session.redo()
    session.undo()
    session.undo()
    row, col, positive = CLICKS[2]
    session.add_click(col, row, positive)  # the same way again gives the same result
    assert np.array_equal(session.prob, probs[3])
    with pytest.raises(RuntimeError, match="no undone click"):
        session.redo()  # another click closed that branch


def test_objects_start_afresh(model):
    session = fdrn_adapter.InteractiveSession(model, crop=96)
    session.set_image(picture())
    first = session.add_click(96, 72)
    session.add_click(10, 10, positive=False)
    session.reset_object()
    assert session.clicks == () and not session.mask.any()
    assert np.array_equal(session.add_click(96, 72), first)


def test_a_click_searches_only_where_the_last_mask_can_be(model):
    """After set_mask, a click, undo and redo; and finds what a search of everything finds."""
    session = fdrn_adapter.InteractiveSession(model, crop=96)
    session.set_image(picture())
    mask = np.zeros(picture().shape[:2], bool)
    mask[50:90, 80:120] = True
    session.set_mask(mask)
    pipeline = session.pipeline

    def searched():
        rows, cols = pipeline.state.region
        everywhere = session.prob > 0
        assert everywhere[rows, cols].sum() == everywhere.sum()
        return rows, cols

    start = searched()
    assert start == (slice(50, 90), slice(80, 120))
    session.add_click(96, 72)
    clicked = searched()
    assert clicked == tuple(
        slice(low, high + 1) for low, high in np.reshape(pipeline.state.roi, (2, 2))
    )
    session.undo()
    assert searched() == start
    after_undo = session.add_click(96, 72)
    session.undo()
    pipeline.restore(dataclasses.replace(pipeline.state, region=EVERYWHERE))  # search everything
    assert np.array_equal(session.add_click(96, 72), after_undo)
    session.undo()
    session.redo()
    assert searched() == clicked
    session.set_mask(mask & False)
    assert session.add_click(96, 72).shape == mask.shape


def test_set_mask_is_where_corrections_start(model):
    session = fdrn_adapter.InteractiveSession(model, crop=96)
    session.set_image(picture())
    plain = session.add_click(96, 72)
    plain_prob = session.prob
    mask = np.zeros(picture().shape[:2], bool)
    mask[50:90, 80:120] = True
    session.set_mask(mask)
    assert np.array_equal(session.mask, mask)
    session.add_click(96, 72)
    assert not np.array_equal(session.prob, plain_prob)
    session.undo()
    assert np.array_equal(session.mask, mask)
    with pytest.raises(ValueError, match=r"shape \(4, 4\), the image \(160, 240\)"):
        session.set_mask(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="instances == label"):
        session.set_mask(mask * 7)
    assert np.array_equal(session.mask, mask) and plain.shape == mask.shape
    bare = fdrn_adapter.InteractiveSession(build_host("tiny", with_prev_mask=False))
    bare.set_image(picture())
    with pytest.raises(ValueError, match="no previous mask"):
        bare.set_mask(mask)


def test_four_threads_with_four_images_equal_the_serial_result(model):
    check_threads_equal_serial(model, num_images=4, clicks=CLICKS[:4])


def test_features_travel_between_sessions(model, tmp_path, monkeypatch):
    first = fdrn_adapter.InteractiveSession(model, crop=96)
    first.set_image(picture())
    want = first.add_click(96, 72)
    first.get_features().save(tmp_path / "f.pt")
    features = fdrn_adapter.ImageFeatures.load(tmp_path / "f.pt")

    def never(*args, **kwargs):
        raise AssertionError("F1 ran although features were given")

    monkeypatch.setattr(model.image_encoder, "forward", never)
    second = fdrn_adapter.InteractiveSession(model, crop=96)
    second.set_image(picture(), features=features)
    assert np.array_equal(second.add_click(96, 72), want)
    monkeypatch.undo()
    third = fdrn_adapter.InteractiveSession(model, crop=96)
    third.set_image(picture())
    third.set_features(features)
    assert np.array_equal(third.add_click(96, 72), want)
    third.set_image(picture()[:100])
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match=r"160 x 240 .* has 100 x 240"):
        third.set_features(features)
    both = fdrn_adapter.InteractiveSession(model, crop=96, flip=True)
    both.set_image(picture())
    assert both.get_features().batch == 2
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match="the same `flip`"):
        both.set_features(features)


def test_cache_is_by_content_and_bounded(model):
    calls = []
    hook = model.image_encoder.register_forward_pre_hook(lambda m, a: calls.append(1))
    images = [np.roll(picture(), 20 * i, axis=1) for i in range(3)]
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    for image in images + [i.copy() for i in images]:
        session.set_image(image)
    assert len(calls) == 3
    small = fdrn_adapter.InteractiveSession(
        model, crop=64, cache_bytes=2 * session.get_features().nbytes
    )
    for image in images + images:
        small.set_image(image)
    hook.remove()
    assert len(calls) == 9 and len(small._cache) == 2
    assert small._cache.nbytes <= small._cache.max_bytes


@pytest.mark.parametrize(("x", "y"), [(-1, 5), (240, 5), (5, 160), (5, -1), (float("nan"), 3)])
def test_clicks_outside_leave_the_session_usable(model, x, y):
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    session.set_image(picture())
    before = session.add_click(96, 72)
    with pytest.raises(ValueError, match=r"x \(column\) runs from 0 to 239, y \(row\) .* to 159"):
        session.add_click(x, y)
    assert len(session.clicks) == 1 and np.array_equal(session.mask, before)
    session.add_click(239, 159)
    assert len(session.clicks) == 2


def test_an_error_inside_a_click_takes_the_click_back(model, monkeypatch):
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    session.set_image(picture())
    session.add_click(96, 72)
    after_one = session.prob
    want = session.add_click(100, 80)
    session.undo()
    with monkeypatch.context() as patch:
        patch.setattr(model.host, "forward", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            session.add_click(100, 80)
    assert len(session.clicks) == 1 and np.array_equal(session.prob, after_one)
    assert np.array_equal(session.add_click(100, 80), want)


def variants():
    rgb = picture()
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    alpha = np.dstack([rgb, np.full(rgb.shape[:2], 9, np.uint8)])
    return {
        "gray": (gray, np.dstack([gray] * 3)), "gray1": (gray[..., None], np.dstack([gray] * 3)),
        "rgba": (alpha, rgb), "float": (rgb / 255.0, rgb), "float32": (np.float32(rgb) / 255, rgb),
        "bool": (gray > 99, np.dstack([(gray > 99) * np.uint8(255)] * 3)),
        "strided": (rgb[::-1, ::-1], rgb[::-1, ::-1]),
    }


@pytest.mark.parametrize("name", variants())
def test_kinds_of_images(model, name):
    given, rgb = variants()[name]
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    session.set_image(given)
    assert np.array_equal(session.image, rgb)
    assert session.add_click(96, 72).shape == (160, 240)


@pytest.mark.parametrize(("image", "message"), [
    (np.zeros((0, 10, 3), np.uint8), "no pixels"),
    (np.zeros((10, 10, 2), np.uint8), r"\(H, W\), \(H, W, 3\) or \(H, W, 4\), got \(10, 10, 2\)"),
    (np.zeros((3, 10, 10, 3), np.uint8), r"got \(3, 10, 10, 3\)"),
    (np.full((10, 10, 3), 2.0), r"in \[0, 1\].*Divide"),
    (np.full((10, 10, 3), np.nan), "without NaN"),
    (np.zeros((10, 10, 3), np.int32), "dtype int32 has no known range"),
    ("nowhere.png", "no image file nowhere.png"),
])
def test_bad_images_leave_the_session_usable(model, image, message):
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    session.set_image(picture())
    before = session.add_click(96, 72)
    with pytest.raises(ValueError, match=message):
        session.set_image(image)
    assert np.array_equal(session.mask, before)
    session.add_click(90, 72)


def test_images_from_files(model, tmp_path):
    cv2.imwrite(str(tmp_path / "image.png"), picture()[..., ::-1])
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    session.set_image(tmp_path / "image.png")
    assert np.array_equal(session.image, picture())
    for content in (b"", b"not an image"):
        (tmp_path / "broken.png").write_bytes(content)
        with pytest.raises(ValueError, match="not an image that OpenCV can read"):
            session.set_image(str(tmp_path / "broken.png"))


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (37, 3), (3000, 4000)])
def test_sizes_from_one_pixel_to_twelve_megapixels(model, size):
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    session.set_image(np.full((*size, 3), 100, np.uint8))
    assert session.add_click(size[1] - 1, 0).shape == size
    assert session.add_click(0, size[0] - 1, positive=False).shape == size
    session.undo()
    session.reset_object()
    session.set_image(picture())
    assert session.add_click(96, 72).shape == (160, 240)


def test_call_order_and_options(model):
    session = fdrn_adapter.InteractiveSession(model)
    for call in (lambda: session.add_click(1, 1), session.undo, session.redo, lambda: session.mask,
                 session.reset_object, session.get_features, lambda: session.prob):
        with pytest.raises(RuntimeError, match=r"call set_image\(image\) first"):
            call()
    assert session.clicks == () and session.image is None
    with pytest.raises(ValueError, match="Unknown engine 'tensorrt'; allowed: auto, eager, torch"):
        fdrn_adapter.InteractiveSession(model, engine="tensorrt")
    with pytest.raises(ValueError, match="threshold"):
        fdrn_adapter.InteractiveSession(model, threshold=1.5)
    with pytest.raises(ValueError, match=r"model.eval\(\) first"):
        fdrn_adapter.InteractiveSession(random_fdrn().train())
    with pytest.raises(fdrn_adapter.UnsupportedHostError):
        fdrn_adapter.InteractiveSession(torch.nn.Conv2d(3, 3, 1).eval())


def test_a_click_knows_how_much_of_the_image_it_works_on():
    session = fdrn_adapter.InteractiveSession(fdrn_adapter.wrap(taught_host("tiny")), crop=96)
    image = picture()
    session.set_image(image)
    everything = image.shape[0] * image.shape[1]
    assert session.pipeline.pixels_in_use() == everything  # the first click looks at all of it
    mask = np.zeros(image.shape[:2], bool)
    mask[50:90, 80:120] = True
    session.set_mask(mask)
    assert session.pipeline.pixels_in_use() == 40 * 40
    session.add_click(100, 70)
    assert 40 * 40 < session.pipeline.pixels_in_use() < everything


@pytest.mark.parametrize("crop", [0, -5, 2.5, 1, 31, "96", True, float("nan")])
def test_sides_of_crops_are_whole_and_large_enough(model, crop):
    with pytest.raises(ValueError, match="crop is a side in pixels, an int of at least 32"):
        fdrn_adapter.InteractiveSession(model, crop=crop)


@pytest.mark.parametrize("click", [
    (1, 2, "no"), (1, 2, float("nan")), (1, 2, -1), (1, 2, None), ("1", "2", True),
    (float("nan"), 2, True), (None, 2, True), ([1, 2], 3, True), (1 + 2j, 3, True),
    (1e300, 3, True), (-0.1, 3, True),
])
def test_clicks_that_are_none_are_refused(model, click):
    session = fdrn_adapter.InteractiveSession(model, crop=96)
    session.set_image(picture())
    with pytest.raises(ValueError, match="positive is True|x and y are numbers|outside the image"):
        session.add_click(*click)
    with pytest.raises(ValueError, match=r"A click is \(x, y, positive\)"):
        session.add_clicks([click[:2]])
    assert session.clicks == ()
    mask = session.add_click(np.float32(96), np.int64(72), np.True_)
    session.undo()
    assert np.array_equal(session.add_click(np.array([96]), 72, 1), mask)


def test_double_precision_default_dtypes_and_autocast_change_nothing():
    image = picture()  # which is drawn in the default dtype
    want = fdrn_adapter.InteractiveSession(random_fdrn(), crop=96)
    want.set_image(image)
    double = fdrn_adapter.InteractiveSession(random_fdrn().double(), crop=96)
    other = fdrn_adapter.InteractiveSession(random_fdrn(), crop=96)
    torch.set_default_dtype(torch.float64)
    try:
        other.set_image(image)
    finally:
        torch.set_default_dtype(torch.float32)
    double.set_image(image)
    cast = fdrn_adapter.InteractiveSession(random_fdrn(), crop=96)
    with torch.autocast("cpu", torch.bfloat16):
        cast.set_image(image)
    for row, col, positive in CLICKS[:3]:
        want.add_click(col, row, positive)
        double.add_click(col, row, positive)
        with torch.autocast("cpu", torch.bfloat16):
            cast.add_click(col, row, positive)
        torch.set_default_dtype(torch.float64)
        try:
            other.add_click(col, row, positive)
        finally:
            torch.set_default_dtype(torch.float32)
        assert np.array_equal(cast.prob, want.prob)
        assert double.prob.dtype == other.prob.dtype == np.float32
        assert np.abs(double.prob - want.prob).max() < 1e-4
        assert np.abs(other.prob - want.prob).max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_with_the_remedy(dtype):
    with pytest.raises(ValueError, match=r"model.float\(\)"):
        fdrn_adapter.InteractiveSession(random_fdrn().to(dtype), crop=96)


def test_a_model_in_several_precisions_is_refused():
    model = random_fdrn()
    model.image_encoder.double()
    with pytest.raises(ValueError, match=r"torch.float32, torch.float64: model.float\(\)"):
        fdrn_adapter.InteractiveSession(model, crop=96)


@pytest.mark.parametrize("name", ["flip", "first_twice", "honour_clicks"])
@pytest.mark.parametrize("value", ["no", 2, 0.0])
def test_flags_are_true_or_false(name, value):
    """"no" used to be taken for yes."""
    with pytest.raises(ValueError, match=f"{name} is True or False"):
        fdrn_adapter.InteractiveSession(random_fdrn(), crop=96, **{name: value})


def test_the_image_that_is_read_back_is_not_written_to():
    session = fdrn_adapter.InteractiveSession(random_fdrn(), crop=96)
    assert session.image is None
    session.set_image(picture())
    with pytest.raises(ValueError, match="read-only"):
        session.image[:] = 0
    assert np.array_equal(session.image, picture())


@pytest.mark.parametrize("shape", [(1, 900), (900, 1)])
def test_stock_networks_on_lines_of_pixels(shape):
    """The stock zoom-in resizes them to nothing."""
    session = fdrn_adapter.InteractiveSession(taught_host("tiny"))
    session.set_image(np.resize(picture(), (*shape, 3)))
    session.set_mask(np.ones(shape, bool))
    assert session.add_click(shape[1] - 1, shape[0] - 1, False).shape == shape
    for side in (0, 2.5, "x"):
        with pytest.raises(ValueError, match="side in pixels"):
            session.zoom_in_like_stock(side)
