"""Click simulation and metrics against the stock code's own."""

import numpy as np
import pytest
from support.evaluation_data import pictures, trimap_of

from fdrn_adapter.evaluation import clicks, metrics
from fdrn_adapter.evaluation.clicks import FALSE, REPETITIVE, Click, Misleading
from fdrn_adapter.label_maps import trimap


def blobs(seed: int, rows: int = 60, cols: int = 80, level: float = 0.0) -> np.ndarray:
    """Random regions, (rows, cols) bool."""
    import cv2

    noise = np.random.default_rng(seed).normal(size=(rows, cols))
    return cv2.GaussianBlur(noise, (0, 0), 5) > level


def labels(seed: int) -> np.ndarray:
    mask = blobs(seed).astype(np.int32)
    mask[blobs(seed + 1000, level=0.08)] = -1
    return mask


@pytest.fixture
def without_ipp():
    """The stock clicker's distances without the noise that IPP adds to them."""
    import cv2

    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    yield
    cv2.ipp.setUseIPP(before)


@pytest.mark.parametrize("seed", range(4))
def test_clicks_are_the_stock_clickers(ritm, seed, without_ipp):
    from ritm_annotation.inference.clicker import Clicker

    mask = labels(seed)
    stock, ours = Clicker(gt_mask=mask), clicks.ClickSimulator(mask)
    prediction = np.zeros(mask.shape, bool)
    signs = set()
    for n in range(24):
        stock.make_next_click(prediction)
        click = ours.next(prediction)
        ours.add(click)
        expected = stock.clicks_list[-1]
        assert (click.y, click.x) == tuple(expected.coords)
        assert click.positive == expected.is_positive
        signs.add(click.positive)
        # The same prediction again (clicked pixels must be left out), others, a perfect one.
        prediction = [prediction, blobs(50 * seed + n), mask == 1][n % 3]
    assert signs == {True, False}


def test_where_in_memory_distances_lie_does_not_matter():
    """With IPP, 1 in 150 clicks was on another pixel, equally far from the border."""
    region = blobs(0)
    simulator = clicks.ClickSimulator(region)
    seen, kept = set(), []
    for n in range(40):
        kept.append(np.empty(4 * n + 1, np.float32))  # moves what is allocated next
        distances = simulator._distances(region)
        seen.add(distances.tobytes())
        squares = np.rint(distances.astype(float) ** 2)
        assert np.array_equal(distances, np.sqrt(squares).astype(np.float32))
    assert len(seen) == 1


def test_ignored_regions_and_clicked_pixels_matter():
    mask = np.zeros((40, 60), np.int32)
    mask[5:25, 5:25], mask[5:35, 30:60] = 1, -1
    simulator = clicks.ClickSimulator(mask)
    everything = np.ones(mask.shape, bool)
    first = simulator.next(np.zeros(mask.shape, bool))
    assert first.positive and mask[first.y, first.x] == 1
    assert first == simulator.next(np.zeros(mask.shape, bool))
    simulator.add(first)
    assert first != simulator.next(np.zeros(mask.shape, bool))
    excess = simulator.next(everything)
    assert not excess.positive and mask[excess.y, excess.x] == 0


@pytest.mark.parametrize("seed", range(3))
def test_iou_is_the_stock_iou(ritm, seed):
    from ritm_annotation.inference.utils import get_iou

    mask, prediction = labels(seed), blobs(seed + 5)
    assert 0 < metrics.iou(mask, prediction) == get_iou(mask, prediction) < 1
    assert metrics.iou(np.abs(mask), prediction) != metrics.iou(mask, prediction)
    assert metrics.iou(mask, mask == 1) == 1


def curves(number: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        np.sort(rng.uniform(0.3, rng.uniform(0.6, 1), 20)).astype(np.float32)
        for _ in range(number)
    ]


def test_numbers_of_clicks_are_the_stock_ones():
    """The stock function needs np.int; its rule is short enough to stand here."""
    ious = curves()
    ious[0] = np.append(np.full(19, 0.5), 0.93).astype(np.float32)  # reached at the last click
    summary = metrics.summary(ious)
    for percent in (80, 85, 90, 95):
        reached = [curve >= percent / 100 for curve in ious]
        needed = [int(np.argmax(r)) + 1 if r.any() else 20 for r in reached]
        assert summary["noc"][str(percent)] == np.mean(needed)
        assert summary["over_max"][str(percent)] == sum(n == 20 for n in needed)
    assert summary["nof"]["90"] == sum(curve.max() < 0.9 for curve in ious)
    assert summary["nof"]["90"] < summary["over_max"]["90"]
    assert summary["miou"]["5"] == pytest.approx(np.mean([c[4] for c in ious]))
    assert set(summary["miou"]) == {"1", "3", "5", "10", "20"}
    assert summary["miou_by_click"][19] == summary["miou"]["20"]


def test_what_early_stops_do_not_tell_is_left_out():
    ious = [[0.5, 0.7, 0.91], [0.2, 0.3, 0.5, 0.6, 0.7, 0.9], [0.1] * 20]
    summary = metrics.summary(ious, 20, stopped_at=0.9)
    assert summary["noc"] == {"80": (3 + 6 + 20) / 3, "85": 29 / 3, "90": 29 / 3}
    assert summary["nof"] == {"85": 1, "90": 1}
    assert list(summary["miou"]) == ["1", "3"] and len(summary["miou_by_click"]) == 3
    assert metrics.summary([]) == {}


# -- misleading --------------------------------------------------------------------------------


def test_definitions_depend_on_seed_and_sample_alone():
    ids = [f"sample{i}" for i in range(200)]
    drawn = {i: clicks.misleading_definitions(i, seed=3) for i in ids}
    assert drawn == {i: clicks.misleading_definitions(i, seed=3) for i in reversed(ids)}
    assert drawn["sample0"] != clicks.misleading_definitions("sample0", seed=4)
    assert drawn["sample0"] != drawn["sample1"]
    numbers = [d.number for definitions in drawn.values() for d in definitions]
    kinds = [d.kind for definitions in drawn.values() for d in definitions]
    assert all(len({d.number for d in definitions}) == 5 for definitions in drawn.values())
    assert set(numbers) == set(range(1, 21)) and set(kinds) == {REPETITIVE, FALSE}
    assert 400 < kinds.count(FALSE) < 600  # of 1000


def test_misleading_clicks_mislead():
    _, mask = next(pictures(1))
    mask = trimap(trimap_of(mask))
    prediction = np.roll(mask == 1, 6, axis=1)
    honest = clicks.ClickSimulator(mask).next(prediction)

    def click(kind, seen):
        return clicks.MisleadingSimulator(mask, [Misleading(1, kind, 0.7)]).next(seen)

    assert click(FALSE, prediction) == Click(honest.x, honest.y, not honest.positive)
    repeated = click(REPETITIVE, prediction)
    assert repeated.positive and repeated != honest
    assert prediction[repeated.y, repeated.x] and mask[repeated.y, repeated.x] == 1
    nothing = np.zeros(mask.shape, bool)
    assert click(REPETITIVE, nothing) == clicks.ClickSimulator(mask).next(nothing)
    other = clicks.MisleadingSimulator(mask, [Misleading(2, FALSE, 0.7)])
    assert other.next(prediction) == honest  # the definition is of the second click
    assert other.next(prediction).positive != honest.positive
