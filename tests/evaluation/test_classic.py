"""Graph cut and random walker on small pictures."""

import sys

import numpy as np
import pytest

from fdrn_adapter.evaluation.methods import classic

RED, BLUE = (200, 40, 30), (30, 60, 190)


def two_squares(noise=12, seed=0):
    """Two red squares on blue, (60, 90, 3), and the mask of the left one."""
    image = np.empty((60, 90, 3), np.float32)
    image[:] = BLUE
    image[20:40, 15:35] = RED
    image[20:40, 55:75] = RED
    image += np.random.default_rng(seed).normal(0, noise, image.shape)
    mask = np.zeros(image.shape[:2], bool)
    mask[20:40, 15:35] = True
    return image.clip(0, 255).astype(np.uint8), mask


def iou(prob, mask):
    found = prob > 0.49
    return (found & mask).sum() / (found | mask).sum()


@pytest.fixture(params=classic.NAMES)
def method(request):
    pytest.importorskip("skimage")
    return classic.build(request.param)


def test_clicks_find_one_of_two_equal_objects(method):
    image, mask = two_squares()
    method.set_image(image)
    method.add_click(25, 30, True)
    prob = method.add_click(65, 30, False)
    assert prob.shape == mask.shape and prob.dtype == np.float32
    assert 0 <= prob.min() and prob.max() <= 1
    assert iou(prob, mask) > 0.85
    assert prob[30, 65] < 0.5 < prob[30, 25]


def test_a_negative_click_takes_back_what_a_graph_cut_gave_away():
    image, mask = two_squares()
    method = classic.build("graphcut")
    method.set_image(image)
    first = method.add_click(25, 30, True)
    assert first[30, 65] == 1  # the same colour: the other square comes along
    second = method.add_click(65, 30, False)
    assert iou(second, mask) > iou(first, mask) + 0.3


def test_a_new_object_starts_from_nothing(method):
    image, _ = two_squares()
    method.set_image(image)
    first = method.add_click(25, 30, True)
    second = method.add_click(45, 30, True)
    assert (first != second).any()
    method.start_object()
    assert (method.add_click(25, 30, True) == first).all()
    method.set_image(image)
    assert (method.add_click(25, 30, True) == first).all()


def test_order_and_precedence_of_seeds():
    clicks = [classic.Click(5, 5, True), classic.Click(7, 5, False)]
    seeds = classic.seed_map((12, 16), clicks, radius_px=3)
    assert seeds[5, 5] == classic.OBJECT  # the clicked pixel, though the later disk covers it
    assert seeds[5, 6] == seeds[5, 7] == classic.BACKGROUND  # the later disk
    assert seeds[5, 3] == classic.OBJECT and seeds[5, 15] == classic.BACKGROUND  # the frame
    assert (seeds[1:-1, 12:-1] == classic.FREE).all()
    corner = classic.seed_map((12, 16), [classic.Click(0, 0, True)], radius_px=2)
    assert corner[0, 0] == corner[0, 2] == classic.OBJECT  # a click outranks the frame
    again = classic.seed_map((12, 16), [*clicks, classic.Click(5, 5, False)], radius_px=3)
    assert again[5, 5] == classic.BACKGROUND


def test_only_negative_clicks_give_an_empty_mask(method):
    image, _ = two_squares()
    method.set_image(image)
    assert not method.add_click(65, 30, False).any()
    assert method.add_click(25, 30, True).any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2), (3, 4), (30, 40)])
@pytest.mark.parametrize("constant", [True, False])
def test_odd_images(method, shape, constant):
    rows, cols = shape
    rng = np.random.default_rng(0)
    image = np.full((*shape, 3), 80, np.uint8) if constant \
        else rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    method.set_image(image)
    clicks = [(cols // 2, rows // 2, True), (0, 0, False), (cols - 1, rows - 1, True),
              (cols - 1, rows - 1, True), (cols - 1, rows - 1, False)]
    for click in clicks:
        prob = method.add_click(*click)
        assert prob.shape == shape and np.isfinite(prob).all()
    assert prob[rows - 1, cols - 1] < 0.5
    if min(shape) > 10:
        assert prob[rows // 2, cols // 2] > 0.5


def test_work_on_large_images_is_bounded(method, monkeypatch):
    monkeypatch.setattr(type(method), "max_side_px", 90)
    image, mask = two_squares()
    image, mask = (np.kron(a, np.ones((4, 4, 1) if a.ndim == 3 else (4, 4), a.dtype))
                   for a in (image, mask))
    seen = []
    segment = method._segment
    monkeypatch.setattr(method, "_segment", lambda seeds: seen.append(seeds) or segment(seeds))
    method.set_image(image)
    method.add_click(100, 120, True)
    prob = method.add_click(180, 120, False)
    assert seen[-1].shape == (60, 90) and prob.shape == (240, 360)
    assert seen[-1][30, 25] == classic.OBJECT and seen[-1][30, 45] == classic.BACKGROUND
    assert prob[mask].mean() > 0.8 and prob[:60].mean() < 0.05


def test_the_random_walk_is_gradys():
    """Against the Dirichlet problem written down pixel by pixel, with beta on colours in [0, 1]."""
    pytest.importorskip("skimage")
    rng = np.random.default_rng(0)
    image = rng.integers(90, 160, (6, 7, 3), dtype=np.uint8)
    seeds = np.zeros((6, 7), np.uint8)
    seeds[2, 3], seeds[0, 0], seeds[5, 5] = classic.OBJECT, classic.BACKGROUND, classic.BACKGROUND
    method = classic.RandomWalker()
    method.set_image(image)
    fast = method._segment(seeds)

    colours, n = image.reshape(-1, 3) / 255.0, 42
    laplacian = np.zeros((n, n))
    for i in range(n):
        for j in ([i + 1] if i % 7 < 6 else []) + ([i + 7] if i < 35 else []):
            weight = np.exp(-90 * ((colours[i] - colours[j]) ** 2).sum())
            laplacian[[i, j], [j, i]] -= weight
            laplacian[[i, j], [i, j]] += weight
    free = seeds.ravel() == classic.FREE
    known = (seeds.ravel() == classic.OBJECT).astype(float)
    solved = known.copy()
    solved[free] = np.linalg.solve(
        laplacian[np.ix_(free, free)], -laplacian[np.ix_(free, ~free)] @ known[~free]
    )
    assert np.ptp(solved[free]) > 0.1
    np.testing.assert_allclose(fast.ravel(), solved, atol=1e-5)


def test_colour_models_come_from_seeds_only():
    image, _ = two_squares()
    seeds = classic.seed_map(image.shape[:2], [classic.Click(25, 30, True)], 5)
    method = classic.GraphCut()

    def models(picture):
        method.set_image(picture)
        return np.concatenate(method._colour_models(seeds))

    before = models(image)
    elsewhere, inside = image.copy(), image.copy()
    elsewhere[seeds == classic.FREE] = 255
    inside[seeds == classic.OBJECT] = 255
    assert (models(elsewhere) == before).all()
    assert (models(inside) != before).any()


def test_errors(method, monkeypatch):
    with pytest.raises(RuntimeError, match="set_image"):
        method.add_click(1, 1, True)
    with pytest.raises(ValueError, match="'watershed'.*graphcut, randomwalker"):
        classic.build("watershed")
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(ValueError, match=r"fdrn_adapter\[plots\]"):
        classic.build("randomwalker")
