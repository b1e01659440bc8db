"""Where recycled features land: a map that encodes its own coordinates tells."""

import types

import numpy as np
import pytest
import torch
from support.networks import build_host

import fdrn_adapter
from fdrn_adapter.encoders.hrnet import HRNetBackbone
from fdrn_adapter.encoders.offsets import measure_offsets
from fdrn_adapter.features import roi
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.recycling import recycle
from fdrn_adapter.features.roi import Grid

CROPS = [(288, 288), (96, 160), (400, 300), (65, 33)]
ROIS = [
    (0, 479, 0, 639),  # the whole image
    (100, 387, 200, 487),  # as large as the 288 crop
    (301, 350, 17, 90),  # small: the crop magnifies
    (0, 211, 400, 639),  # at two borders
    (10, 470, 5, 60),  # far from square
]


def coordinate_map(rows: int, cols: int) -> torch.Tensor:
    """(1, 2, rows, cols): each cell holds its own row and column."""
    grid = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    return torch.stack(grid).double()[None]


def features_of(low: torch.Tensor, stride: int, image_size, input_size=None, offset=(0.0, 0.0)):
    return ImageFeatures(
        {"low": low}, {"low": Grid(stride, offset)}, tuple(image_size),
        tuple(input_size or image_size), "coordinates",
    )


def expected_cells(first, last, crop, n_out, stride, image, seen, encoder_stride, offset, n_in):
    """The mean position over each host cell's bin, from the frames' definitions, by brute force.

    Written with np.interp on long lists of positions, without the algebra of roi.py.
    """
    crop_px = stride * np.arange(n_out)[:, None] + stride * (np.arange(400)[None] + 0.5) / 400
    crop_px = crop_px - stride / 2  # 400 places over the cell's bin, centred on the cell
    scale = (last - first) / (crop - 1)
    image_px = first + crop_px * scale  # rmin + y * (rmax - rmin) / (h - 1)
    seen_px = (image_px + 0.5) * seen / image - 0.5
    cell = (seen_px - offset) / encoder_stride
    cell = np.where(np.ptp(cell, axis=1, keepdims=True) <= 1, cell.mean(1, keepdims=True), cell)
    return np.clip(cell, 0, n_in - 1).mean(1)


@pytest.mark.parametrize("stride", [4, 16])
@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("box", ROIS)
@pytest.mark.parametrize("seen", [(480, 640), (240, 320)], ids=["full", "capped"])
@pytest.mark.parametrize("offset", [0.0, 7.5])
@pytest.mark.parametrize("separable", [False, True], ids=["", "separable"])
def test_coordinates_come_back(stride, crop, box, seen, offset, separable):
    image = (480, 640)
    cells = tuple(-(-s // stride) for s in seen)
    features = features_of(coordinate_map(*cells), stride, image, seen, (offset, offset))
    out_size = tuple(-(-c // stride) for c in crop)
    got = recycle(features, [box]).low(crop, Grid(stride), out_size, separable)[0].numpy()
    for axis in (0, 1):
        want = expected_cells(
            box[2 * axis], box[2 * axis + 1], crop[axis], out_size[axis], stride, image[axis],
            seen[axis], stride, offset, cells[axis],
        )
        along = got[axis].mean(1 - axis)
        assert np.abs(got[axis] - np.expand_dims(along, 1 - axis)).max() < 1e-9
        assert np.abs(along - want).max() < 0.1, (axis, along, want)


def test_the_usual_half_pixel_reading_would_fail():
    """The test above is sharp enough to tell cell centres on s*j from (j + 0.5)*s - 0.5."""
    features = features_of(coordinate_map(30, 40), 16, (480, 640))
    got = recycle(features, [(0, 479, 0, 639)]).low((480, 640), Grid(16), (30, 40))[0]
    assert torch.allclose(got, coordinate_map(30, 40)[0], atol=1e-3)
    half = recycle(features, [(0, 479, 0, 639)]).low((480, 640), Grid(16, (7.5, 7.5)), (30, 40))
    assert (half[0] - got)[:, 5:-5, 5:-5].mean() == pytest.approx(7.5 / 16, abs=1e-3)


def test_unit_step_copies_cells_exactly():
    feature = torch.randn(1, 5, 30, 40)
    features = features_of(feature, 16, (480, 640))
    got = recycle(features, [(0, 479, 0, 639)]).low((480, 640), Grid(16), (30, 40))
    assert (got - feature).abs().max() < 3e-3  # white noise: the worst case of the shrink
    got = recycle(features, [(160, 447, 32, 319)]).low((288, 288), Grid(16), (18, 18))
    assert (got - feature[:, :, 10:28, 2:20]).abs().max() < 1e-3


def test_shrinking_averages_over_bins():
    feature = torch.randn(1, 3, 32, 32).double()
    features = features_of(feature, 4, (125, 125))
    # 125 px onto 63 px: each host cell of stride 4 covers two encoder cells
    got = recycle(features, [(0, 124, 0, 124)]).low((63, 63), Grid(4), (16, 16))
    def at(r, c):  # cell (r, c) averages the four points half a cell around 2r, 2c
        def value(y, x):
            y, x = min(max(y, 0), 31), min(max(x, 0), 31)
            y0, x0 = min(int(y), 30), min(int(x), 30)
            fy, fx = y - y0, x - x0
            f = feature[0]
            return ((1 - fy) * (1 - fx) * f[:, y0, x0] + fy * (1 - fx) * f[:, y0 + 1, x0]
                    + (1 - fy) * fx * f[:, y0, x0 + 1] + fy * fx * f[:, y0 + 1, x0 + 1])
        return sum(value(2 * r + a, 2 * c + b) for a in (-0.5, 0.5) for b in (-0.5, 0.5)) / 4
    for r in range(16):
        for c in range(16):
            assert torch.allclose(got[0, :, r, c], at(r, c), atol=1e-3), (r, c)


def test_batch_of_images_of_different_sizes_keeps_its_order():
    small = features_of(coordinate_map(20, 25), 16, (320, 400))
    large = features_of(coordinate_map(30, 40) + 1000, 16, (480, 640))
    rois = [(0, 479, 0, 639), (0, 319, 0, 399), (100, 300, 100, 300)]
    got = recycle([small, large], rois, [1, 0, 1]).low((160, 160), Grid(16), (10, 10))
    for row, (features, box) in enumerate(zip((large, small, large), rois, strict=True)):
        alone = recycle(features, [box]).low((160, 160), Grid(16), (10, 10))
        assert torch.allclose(got[row], alone[0])
    both = features_of(torch.cat([coordinate_map(20, 25), coordinate_map(20, 25) + 5]), 16,
                       (320, 400))
    got = recycle(both, rois[1:2] * 2).low((160, 160), Grid(16), (10, 10))
    assert torch.allclose(got[1], got[0] + 5)


@pytest.mark.parametrize(("rois", "message"), [
    ([(10, 9, 0, 50)], r"rois\[0\] = \(10, 9, 0, 50\) is empty.*rmin, rmax, cmin, cmax"),
    ([(0, 480, 0, 50)], r"480 rows and 640 columns: rows run from 0 to 479"),
    ([(0, 50, -1, 50)], r"reaches out of the image"),
    ([(0, 50, 0, 50, 0)], r"shape \(B, 4\)"),
    ((0, 50, 0, 50), r"pass \[\[rmin, rmax, cmin, cmax\]\]"),
])
def test_bad_rois(rois, message):
    features = features_of(coordinate_map(30, 40), 16, (480, 640))
    with pytest.raises(ValueError, match=message):
        recycle(features, rois)


def test_rois_and_images_must_go_together():
    two = features_of(torch.zeros(2, 1, 30, 40), 16, (480, 640))
    box = (0, 50, 0, 50)
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match="pass image_index"):
        recycle(two, [box] * 3)
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match=r"images 0\.\.1"):
        recycle(two, [box] * 2, [0, 2])
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match="encode_image"):
        recycle([torch.zeros(1)], [box])


def test_one_pixel_roi_and_one_pixel_crop():
    features = features_of(coordinate_map(30, 40), 16, (480, 640))
    got = recycle(features, [(160, 160, 320, 320)]).low((32, 32), Grid(16), (2, 2))
    assert torch.allclose(got[0, :, 0, 0], torch.tensor([10.0, 20.0]).double(), atol=0.01)
    assert torch.allclose(got[0, :, 1, 1], torch.tensor([10.0, 20.0]).double(), atol=0.01)
    got = recycle(features, [(160, 300, 320, 330)]).low((1, 1), Grid(16), (1, 1))
    assert torch.allclose(got[0, :, 0, 0], torch.tensor([10.0, 20.0]).double(), atol=0.01)


def test_overhang_pads_only_what_torchvision_would_zero():
    start, step = torch.tensor([0.0]).double(), torch.tensor([1.0]).double()
    assert roi._overhang(start, step, 10, 10) == (0, 0)
    assert roi._overhang(start, torch.tensor([4.0]).double(), 10, 40)[0] == 1
    ones = torch.ones(1, 1, 40, 40)
    got = recycle(features_of(ones, 4, (160, 160)), [(0, 159, 0, 159)])
    assert (got.low((20, 20), Grid(4), (5, 5)) - 1).abs().max() < 1e-6  # no zeros at the border


@pytest.mark.parametrize("size", ["18s", "18"])
def test_hrnet_cells_stand_on_multiples_of_the_stride(size, ritm):
    """The claim behind Grid(offset 0): measured on the real network by its receptive fields."""
    name = {"18s": "hrnet18s", "18": "hrnet18"}[size]
    last = {"18s": 2, "18": 3}[size]
    backbone = HRNetBackbone(build_host(size).feature_extractor, name, last, last)
    backbone.maps = types.MethodType(lambda self, x: list(self.forward(x)), backbone)
    # At sizes 16k + 1 the align_corners upsampling inside the fuse layers is exact. At others it
    # stretches: 64 and 16 cells are matched as 63/15 = 4.2, not 4, and the middle of a 256 px image
    # is 6 px off inside the stock network itself. No single offset describes that.
    assert measure_offsets(backbone, {4: 0, 16: 1}, size=257) == {4: (0, 0), 16: (0, 0)}
    assert measure_offsets(backbone, {4: 0, 16: 1}, size=256)[4][0] < -4


def test_the_separable_form_is_roi_align():
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for turn in range(60):
        sizes = torch.randint(20, 700, (2,), generator=generator)
        cells = [-(-int(n) // 16) for n in sizes]  # the last host cells overhang these
        feature = torch.randn(2, 3, *cells, dtype=torch.float64, generator=generator)
        boxes = []
        for _ in range(3):
            first = [int(torch.randint(0, int(n), (1,), generator=generator)) for n in sizes]
            last = [int(torch.randint(f, int(n), (1,), generator=generator))
                    for f, n in zip(first, sizes, strict=True)]
            boxes.append([first[0], last[0], first[1], last[1]])
        features = ImageFeatures(
            {"low": feature}, {"low": Grid(16, (-0.5, 3.0)) if turn % 2 else Grid(16)},
            tuple(sizes.tolist()), tuple(sizes.tolist()), "noise",
        )
        placed = recycle(features, boxes, [0, 1, 1])
        want, got = (
            placed.low((288, 96), Grid(16), (18, 6), separable) for separable in (False, True)
        )
        assert got is placed.low((288, 96), Grid(16), (18, 6), True) and got is not want
        assert want.shape == got.shape and want[1].std() > 0
        worst = max(worst, (want - got).abs().max().item())
    assert worst < 1e-5
