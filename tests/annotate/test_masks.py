"""Masks packed and sent, against NumPy."""

import numpy as np
import pytest

from fdrn_adapter.annotate import edits
from fdrn_adapter.annotate.masks import PackedMask, change, mask_of_runs
from fdrn_adapter.outlines import filled


def blob(seed: int, rows: int = 40, cols: int = 57) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = np.zeros((rows, cols), bool)
    mask[rng.integers(0, 9) : rng.integers(20, 40), rng.integers(0, 20) : rng.integers(30, 57)] = 1
    return mask & (rng.random(mask.shape) > 0.2)


@pytest.mark.parametrize("mask", [
    blob(0), blob(1), np.zeros((5, 7), bool), np.ones((5, 7), bool), np.eye(3, dtype=bool),
])
def test_a_mask_comes_back_from_memory_and_from_a_file(mask):
    packed = PackedMask.of(mask)
    assert np.array_equal(packed.array, mask) and packed.area == mask.sum()
    assert np.array_equal(PackedMask.from_json(packed.for_json(), mask.shape).array, mask)


def test_a_change_is_applied_to_the_mask_before():
    empty = np.zeros((40, 57), bool)
    for old, new in ((blob(0), blob(1)), (empty, blob(2)), (blob(3), empty), (blob(4), ~blob(4))):
        found = change(PackedMask.of(old), PackedMask.of(new))
        x, y, width, height = found["box"]
        turned = mask_of_runs(found["runs"], found["box"], old.shape)
        assert np.array_equal(old ^ turned, new)
        rows, cols = np.nonzero(old ^ new)  # no larger than it must be
        assert (x, y, width, height) == (
            cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1)


def test_no_change_is_none():
    assert change(PackedMask.of(blob(0)), PackedMask.of(blob(0))) is None
    assert change(None, PackedMask((4, 4))) is None
    assert change(None, PackedMask.of(blob(0))) is not None


@pytest.mark.parametrize("damage", [
    {"box": [0, 0, 90, 2]}, {"box": [1, 2]}, {"bits": "AAAA"}, {"bits": 3}, {"box": None},
    {"box": [0, 0, 3, 3]}, {"box": [0, 0, 57, 40]}, {"area": 3},
])
def test_damaged_masks_are_refused(damage):
    stored = {**PackedMask.of(blob(0)).for_json(), **damage}
    with pytest.raises(ValueError, match="damaged"):
        PackedMask.from_json(stored, (40, 57))


def test_a_stroke_covers_what_is_within_its_radius():
    line = np.array([(10.0, 12.0), (40.0, 30.0)])
    drawn = edits.brushed(np.zeros((50, 60), bool), line, 5, erase=False)
    rows, cols = np.indices(drawn.shape)
    along = np.clip(((cols - 10) * 30 + (rows - 12) * 18) / (30**2 + 18**2), 0, 1)
    away = np.hypot(cols - 10 - 30 * along, rows - 12 - 18 * along)
    assert drawn[away < 4].all() and not drawn[away > 6.2].any()
    erased = edits.brushed(np.ones((50, 60), bool), line, 5, erase=True)
    assert np.array_equal(~erased, drawn)
    dot = edits.brushed(np.zeros((9, 9), bool), [(4, 4)], 0.5, erase=False)
    assert dot.sum() == 1 and dot[4, 4]


def test_dragged_corners_change_what_they_sweep_and_nothing_else():
    mask = blob(5)
    before = [[[10, 10], [30, 10], [30, 30], [10, 30]]]
    after = [[[10, 10], [40, 10], [30, 30], [18, 30]]]
    result = edits.reshaped(mask, before, after)
    was, now = (filled([np.array(r, float) for r in rings], mask.shape)
                for rings in (before, after))
    assert np.array_equal(result, np.where(was == now, mask, now))
    assert (result != mask).any()
    assert np.array_equal(edits.reshaped(mask, before, before), mask)


def test_corners_of_a_mask_fill_it():
    mask = np.zeros((30, 30), bool)
    mask[5:20, 6:25] = True
    mask[9:12, 9:14] = False
    rings = [np.array(r) for r in edits.corners_of(mask, 0)]
    assert len(rings) == 2 and np.array_equal(filled(rings, mask.shape), mask)


@pytest.mark.parametrize("points", [None, [], [[1]], [[1, "a"]], [[float("nan"), 1]], [[1e9, 0]]])
def test_points_that_are_none(points):
    with pytest.raises(ValueError, match="[Pp]oints"):
        edits.brushed(np.zeros((9, 9), bool), points, 2, erase=False)
