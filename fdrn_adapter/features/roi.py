"""Where a cell of the host's feature map lies in the image encoder's feature map.

Three frames are chained, each by a linear map per axis (rows and columns on their own, since fixed
crops are anisotropic):

    host cell i  ->  crop pixel s*i + o  ->  image pixel rmin + y*(rmax-rmin)/(h-1)
                 ->  encoder input pixel  ->  encoder cell (pixel - offset) / stride

A stack of 3x3 stride-2 padding-1 convolutions puts cell j on pixel s*j, not on (j+0.5)*s-0.5: at
stride 16 the usual reading of ROI Align is half a cell, 8 pixels, off. The stock code cuts crops
out of inclusive rois and resizes them with align_corners=True, hence the (h-1).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align

# Bins are shrunk by this share so that rounding cannot turn a bin of one cell into two samples.
SHRINK = 1e-5


@dataclass(frozen=True)
class Grid:
    """A feature map's place on the pixels of its network's input: cell j is on stride*j + offset.

    Attributes:
        stride: pixels between neighbouring cells.
        offset_rc: pixel (row, col) of the first cell; 0 for a padding-1 stack of 3x3 convolutions.
    """

    stride: float
    offset_rc: tuple[float, float] = (0.0, 0.0)


def cells(side: int, stride: float) -> int:
    """Cells of a map of this stride on so many pixels: networks round up."""
    return -int(-side // stride)


@dataclass(frozen=True)
class Placement:
    """How a batch of crops lies in its images.

    Attributes:
        rois: (B, 4) float64 on the CPU: rmin, rmax, cmin, cmax, inclusive, in image pixels.
        image_size: (B, 2) float64, rows and columns of the image of each roi.
        input_size: (B, 2) float64, rows and columns the image encoder was given.
        crop_size: rows and columns of the crop the host is given.
    """

    rois: Tensor
    image_size: Tensor
    input_size: Tensor
    crop_size: tuple[int, int]

    def on_encoder(self, host: Grid, encoder: Grid, axis: int) -> tuple[Tensor, Tensor]:
        """Host cell i of `axis` (0 rows, 1 columns) lies on encoder cell start + i*step, (B,)."""
        first, last = self.rois[:, 2 * axis], self.rois[:, 2 * axis + 1]
        return chained(
            first, last, self.image_size[:, axis], self.input_size[:, axis], self.crop_size[axis],
            host, encoder, axis,
        )


def chained(
    first: Tensor, last: Tensor, image_side: Tensor, input_side: Tensor, crop_side: int,
    host: Grid, encoder: Grid, axis: int,
) -> tuple[Tensor, Tensor]:
    """The frames of one axis (0 rows, 1 columns) in a chain: cell i lies on start + i * step.

    Args:
        first, last: of the rois, inclusive, image pixels.
        image_side, input_side: pixels of the image and of what the encoder was given.
        crop_side: pixels of what the host's first convolution sees.
        host, encoder: grids of the two maps.

    Returns:
        start and step, in cells of the encoder's map, of the same shape as `first`.
    """
    image_per_crop = (last - first) / (crop_side - 1) if crop_side > 1 else 0 * first
    # The encoder's input is the image, resized the half-pixel way when it is too large.
    input_per_image = input_side / image_side
    image_px = first + host.offset_rc[axis] * image_per_crop
    input_px = (image_px + 0.5) * input_per_image - 0.5
    start = (input_px - encoder.offset_rc[axis]) / encoder.stride
    step = host.stride * image_per_crop * input_per_image / encoder.stride
    return start, step


def _bins(start: Any, step: Any, n_out: int) -> tuple[Any, Any]:
    """ROI Align's bins along one axis: the middle of all of them, and the size of one."""
    return start + step * (n_out - 1) / 2, _at_least(1e-3, step) * (1 - SHRINK)


def _at_least(least: float, value: Any) -> Any:
    return value.clamp(min=least) if isinstance(value, Tensor) else np.maximum(value, least)


def align(
    feature: Tensor,
    map_index: Tensor,
    placement: Placement,
    encoder: Grid,
    host: Grid,
    out_size: tuple[int, int],
) -> Tensor:
    """Sample encoder features on the cells of the host's map (ROI Align, Sec. 3.3.1).

    Where a host cell covers several encoder cells, they are averaged over its bin; past the border
    the nearest cell stands in.

    Args:
        feature: (N, C, H, W) maps of the image encoder.
        map_index: (B,) which of the N maps each roi is on.
        placement: the B rois and their frames.
        encoder: grid of `feature` on the encoder's input.
        host: grid of the host's map on the crop.
        out_size: rows and columns of the host's map.

    Returns:
        (B, C, *out_size).
    """
    start_step = [placement.on_encoder(host, encoder, axis) for axis in (0, 1)]
    pads = [
        _overhang(start, step, n_out, n_in)
        for (start, step), n_out, n_in in zip(start_step, out_size, feature.shape[-2:], strict=True)
    ]
    boxes = [map_index.double()]
    for axis in (1, 0):  # torchvision wants (index, x1, y1, x2, y2)
        start, step = start_step[axis]
        middle, bin_size = _bins(start, step, out_size[axis])
        centre, half = middle + pads[axis][0], bin_size * out_size[axis] / 2
        boxes += [centre - half + 0.5, centre + half + 0.5]
    index, x1, x2, y1, y2 = boxes
    if feature.dtype in (torch.float16, torch.bfloat16) and feature.device.type == "cpu":
        feature = feature.float()  # torchvision's CPU kernel knows float and double only
    rois = torch.stack([index, x1, y1, x2, y2], dim=1).to(feature)
    (top, bottom), (left, right) = pads
    if top or bottom or left or right:
        feature = F.pad(feature, (left, right, top, bottom), mode="replicate")
    return roi_align(feature, rois, out_size, spatial_scale=1.0, sampling_ratio=0, aligned=True)


def _overhang(start: Tensor, step: Tensor, n_out: int, n_in: int) -> tuple[int, int]:
    """Cells that bins reach past a map of n_in cells, before and after.

    torchvision clamps samples within [-1, n_in] to the border and returns 0 beyond; the map is
    padded by what is beyond.
    """
    samples = step.clamp(min=1e-3).ceil()
    reach = step / 2 * (1 - 1 / samples)
    before = -1 - (start - reach).min().item()
    after = (start + step * (n_out - 1) + reach).max().item() - n_in
    whole = [max(0, math.ceil(v + 1e-3)) if v > -1e-3 else 0 for v in (before, after)]
    return whole[0], whole[1]


# -- as products -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sampling:
    """ROI Align of one roi along one axis: a product with a matrix, on the cells it reaches.

    Attributes:
        matrix: (cells of the host's map, cells `start` to `stop` of the encoder's) float64.
    """

    matrix: Tensor
    start: int
    stop: int


def samplings(
    placement: Placement, encoder: Grid, host: Grid, out_size: tuple[int, int],
    in_size: tuple[int, int],
) -> list[tuple[Sampling, Sampling]]:
    """Rows and columns of each roi, for `align_separable`.

    Args:
        placement, encoder, host, out_size: as for `align`.
        in_size: rows and columns of the encoder's map.
    """
    axes = [
        [_sampling(*at, n_out, n_in) for at in zip(start.tolist(), step.tolist(), strict=True)]
        for axis, (n_out, n_in) in enumerate(zip(out_size, in_size, strict=True))
        for start, step in [placement.on_encoder(host, encoder, axis)]
    ]
    return list(zip(*axes, strict=True))


def _sampling(start: float, step: float, n_out: int, n_in: int) -> Sampling:
    """One axis of one roi, by numbers: only the cells that are reached."""
    at = _samples(start, step, n_out, n_in - 1)
    first, stop = int(at[0, 0]), min(n_in, int(at[-1, -1]) + 2)
    return Sampling(torch.from_numpy(_means(at, np.arange(first, stop))), first, stop)


def alignment_matrix(
    first: Tensor, last: Tensor, image_side: Tensor, input_side: Tensor, crop_side: int,
    host: Grid, encoder: Grid, axis: int, n_out: int, n_in: Tensor | int,
) -> Tensor:
    """`align` along one axis as a matrix (n_out, n_in), in operations that can be traced.

    Args:
        first, last, image_side, input_side: float64 scalars; see `chained`, also for the others.
        n_out, n_in: cells of the two maps.
    """
    start, step = chained(
        first, last, image_side, input_side, crop_side, host, encoder, axis
    )
    at_cells = _counted(n_in, start)
    return _means(_samples(start, step, n_out, at_cells[-1]), at_cells)


def _samples(start: Any, step: Any, n_out: int, last_cell: Any) -> Any:
    """(n_out, samples): where ROI Align samples the encoder's map along one axis, in its cells.

    Args:
        start, step: of one roi, two numbers, or two scalar tensors where this is traced.
        n_out: cells of the host's map.
        last_cell: beyond it, and before cell 0, the nearest cell stands in.
    """
    middle, bin_size = _bins(start, step, n_out)
    traced = isinstance(start, Tensor)
    samples = bin_size.ceil() if traced else np.ceil(bin_size)
    begin = middle - bin_size * n_out / 2
    inside = (_counted(samples, start) + 0.5) / samples
    at = begin + bin_size * (_counted(n_out, start)[:, None] + inside)
    return (torch if traced else np).minimum(_at_least(0, at), last_cell)


def _means(at: Any, at_cells: Any) -> Any:
    """(n_out, cells): a linear interpolation between cells at each sample, averaged."""
    return _at_least(0, 1 - abs(at[..., None] - at_cells)).mean(1)


def _counted(n: Any, like: Any) -> Any:
    """0 to n - 1, in the kind and precision of `like`."""
    if not isinstance(like, Tensor):
        return np.arange(n, dtype=np.float64)
    stop: Any = n.long() if isinstance(n, Tensor) else n  # traced, a number too
    return torch.arange(stop, device=like.device).to(like)


def align_separable(
    feature: Tensor, map_index: Tensor, places: list[tuple[Sampling, Sampling]]
) -> Tensor:
    """`align` as two products with small matrices, several times faster on one thread.

    Args:
        feature, map_index: as for `align`.
        places: from `samplings`.

    Returns:
        (B, C, rows, columns) as `align`, but for rounding.
    """
    aligned = [
        _beside(feature, rows.matrix)
        @ (feature[i, :, rows.start : rows.stop, cols.start : cols.stop]
           @ _beside(feature, cols.matrix).T)
        for i, (rows, cols) in zip(map_index.tolist(), places, strict=True)
    ]
    return torch.stack(aligned) if len(aligned) > 1 else aligned[0][None]


def _beside(feature: Tensor, matrix: Tensor) -> Tensor:
    """A matrix in a feature's dtype, on its device, without waiting for what runs there."""
    matrix = matrix.to(feature.dtype)
    if feature.device.type == "cuda":
        matrix = matrix.pin_memory()
    return matrix.to(feature.device, non_blocking=True)


def check_rois(rois: Tensor, image_size: tuple[int, int]) -> None:
    """Refuse rois that are empty or reach out of an image of image_size (rows, columns).

    Raises:
        ValueError: with the first bad roi and the range allowed.
    """
    rows, cols = image_size
    for i, (rmin, rmax, cmin, cmax) in enumerate(rois.tolist()):
        if rmax < rmin or cmax < cmin:
            raise ValueError(
                f"rois[{i}] = ({rmin:g}, {rmax:g}, {cmin:g}, {cmax:g}) is empty. The order is "
                "rmin, rmax, cmin, cmax, inclusive, with rmin <= rmax and cmin <= cmax."
            )
        if rmin < 0 or cmin < 0 or rmax > rows - 1 or cmax > cols - 1:
            raise ValueError(
                f"rois[{i}] = ({rmin:g}, {rmax:g}, {cmin:g}, {cmax:g}) reaches out of the image "
                f"of {rows} rows and {cols} columns: rows run from 0 to {rows - 1}, columns from "
                f"0 to {cols - 1}, both inclusive. Clamp the roi before cropping."
            )
