"""The rois of dynamic-scale learning, and what is cut out of them."""

import random

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fdrn_adapter.training import rois

RANGE = (0.3, 1.0)


def box_mask(rows, cols, top, bottom, left, right):
    mask = np.zeros((rows, cols), np.float32)
    mask[top : bottom + 1, left : right + 1] = 1
    return mask


BOXES = [(40, 60, 30, 70), (0, 99, 0, 10), (0, 0, 0, 0), (99, 99, 199, 199)]


@pytest.mark.parametrize("box", BOXES)
def test_roi_always_contains_the_object(box):
    mask, draw = box_mask(100, 200, *box), random.Random(0)
    seen = set()
    for _ in range(300):
        (rmin, rmax, cmin, cmax), _ = rois.sample_roi(mask, RANGE, draw)
        assert 0 <= rmin <= box[0] and box[1] <= rmax <= 99
        assert 0 <= cmin <= box[2] and box[3] <= cmax <= 199
        seen.add((rmin, rmax, cmin, cmax))
    assert len(seen) > 100 or box == (0, 99, 0, 10)  # as high as the image: one place and size


def test_proportion_is_uniform_where_the_object_leaves_room():
    mask, draw = box_mask(1000, 1000, 500, 600, 500, 600), random.Random(1)
    found = [rois.sample_roi(mask, RANGE, draw) for _ in range(4000)]
    proportions = np.array([p for _, p in found])
    counts, _ = np.histogram(proportions, bins=7, range=RANGE)
    expected = 4000 / 7
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 22.5  # 0.999 quantile at 6 degrees of freedom
    sides = np.array([(r[1] - r[0] + 1) / 1000 for r, _ in found])
    assert np.abs(sides - proportions).max() < 1e-3


def test_large_objects_raise_the_lower_end_alone():
    mask, draw = box_mask(100, 100, 10, 89, 40, 50), random.Random(2)
    proportions = np.array([rois.sample_roi(mask, RANGE, draw)[1] for _ in range(2000)])
    assert proportions.min() >= 0.8
    counts, _ = np.histogram(proportions, bins=4, range=(0.8, 1.0))
    assert counts.min() > 0.8 * 500


def test_place_is_uniform_too():
    mask, draw = box_mask(1000, 1000, 500, 500, 500, 500), random.Random(3)
    tops = [rois.sample_roi(mask, (0.3, 0.3), draw)[0][0] for _ in range(3000)]
    counts, _ = np.histogram(tops, bins=5, range=(201, 501))
    assert counts.min() > 0.8 * 600


def test_without_object_the_roi_is_anywhere():
    draw = random.Random(4)
    found = {rois.sample_roi(np.zeros((50, 50)), RANGE, draw)[0] for _ in range(50)}
    assert len(found) > 30


def test_fixed_roi_has_the_margin_of_the_stock_zoom_in():
    mask = box_mask(1000, 1000, 400, 599, 300, 699)
    assert rois.fixed_roi(mask, 1.4, 200) == (360, 640, 220, 780)
    assert rois.fixed_roi(np.zeros((40, 60)), 1.4, 200) == (0, 39, 0, 59)


def test_crop_is_the_one_of_the_stock_zoom_in():
    zoom_in = pytest.importorskip("ritm_annotation.inference.transforms.zoom_in")
    image = np.random.default_rng(0).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    roi = (10, 80, 5, 60)
    nd = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    theirs = zoom_in.get_roi_image_nd(nd, roi, (48, 32))[0].permute(1, 2, 0).round().numpy()
    assert np.abs(theirs - rois.cut_image(image, roi, (48, 32))).max() <= 1


def test_masks_are_cut_on_the_pixels_of_the_crop():
    rows = np.repeat(np.arange(90)[:, None], 70, axis=1)
    cut = rois.cut_mask(rows, (10, 80, 5, 60), (36, 12))
    assert np.array_equal(cut[:, 0], np.rint(np.linspace(10, 80, 36)))


def test_roi_on_the_global_image_lies_where_the_resize_puts_it():
    rows = torch.arange(100.0).view(1, 1, 100, 1).expand(1, 1, 100, 60)
    small = F.interpolate(rows, (50, 40), mode="bilinear", align_corners=False)[0, 0, :, 0]
    top, bottom, _, _ = rois.roi_on_global((20, 81, 0, 59), (100, 60), (50, 40)).tolist()
    index = torch.arange(50.0)
    # Row r of the global image shows small[r] of the image's rows.
    assert np.interp(top, index, small) == pytest.approx(20, abs=1e-4)
    assert np.interp(bottom, index, small) == pytest.approx(81, abs=1e-4)


@pytest.mark.parametrize("shape", [(9, 1, 3), (1, 9, 3)])
def test_mirrored_images_of_one_column(shape):
    """Their negative strides used to end training, at random: half of the samples are mirrored."""
    mirrored = np.arange(27, dtype=np.uint8).reshape(shape)[::-1, ::-1]
    last = (0, shape[0] - 1, 0, shape[1] - 1)
    assert np.array_equal(rois.cut_image(mirrored, last, shape[:2]), mirrored)
    want = torch.from_numpy(mirrored.copy()).permute(2, 0, 1) / 255
    assert torch.allclose(rois.shrink(mirrored, shape[:2]), want, atol=1e-6)
