"""Regions of an image, and maps that are known on one only."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Box = tuple[int, int, int, int]  # first row, first row beyond; columns likewise
Roi = tuple[int, int, int, int]  # first and last row, first and last column: the stock code's
Region = tuple[slice, slice]  # rows, columns

EVERYWHERE: Region = (slice(None), slice(None))
NOWHERE: Region = (slice(0, 0), slice(0, 0))


def box_of(region: Region, size: tuple[int, int]) -> Box:
    """Slices of rows and columns as numbers."""
    (y1, y2, _), (x1, x2, _) = (s.indices(n) for s, n in zip(region, size, strict=True))
    return (y1, y2, x1, x2)


def box_of_roi(roi: Roi) -> Box:
    """The same rows and columns, by the first beyond instead of the last."""
    return (roi[0], roi[1] + 1, roi[2], roi[3] + 1)


def region_of(box: Box) -> Region:
    """A box as slices."""
    return (slice(box[0], box[1]), slice(box[2], box[3]))


def whole_roi(size: tuple[int, int]) -> Roi:
    """All of an image of so many rows and columns."""
    return (0, size[0] - 1, 0, size[1] - 1)


def union(a: Box, b: Box) -> Box:
    """The smallest box that holds both; an empty one counts for nothing."""
    if a[0] >= a[1] or a[2] >= a[3]:
        return b
    if b[0] >= b[1] or b[2] >= b[3]:
        return a
    return (min(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), max(a[3], b[3]))


def bounds(mask: np.ndarray) -> Roi | None:
    """First and last row and column of a mask (H, W) bool, None where it is empty."""
    import cv2

    if not mask.size:
        return None
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    return (y, y + height - 1, x, x + width - 1) if width else None


def extent(prob: np.ndarray) -> Region:
    """The smallest rows and columns that hold all of a map (H, W) that is not zero."""
    found = bounds(prob != 0)
    return NOWHERE if found is None else region_of(box_of_roi(found))


def part_of(whole: Tensor, box: Box) -> Tensor:
    """A view of a box of maps (B, C, H, W)."""
    return whole[:, :, box[0] : box[1], box[2] : box[3]]


def on_whole(part: Tensor, box: Box, size: tuple[int, int]) -> tuple[np.ndarray, Tensor]:
    """A map that is zero outside of a box: (H, W) on the CPU, (1, 1, H, W) on the device of `part`.

    Args:
        part: (1, 1, h, w), what is on the box.
        box: rows and columns of the image.
        size: rows and columns of the image.
    """
    values = part.cpu().numpy()
    if tuple(part.shape[2:]) == tuple(size):
        return values[0, 0], part
    # numpy takes zeroed pages from the system when they are first touched
    whole = np.zeros((1, 1, *size), values.dtype)
    rows, cols = region_of(box)
    whole[:, :, rows, cols] = values
    if part.device.type == "cpu":
        return whole[0, 0], torch.from_numpy(whole)
    there = part.new_zeros((1, 1, *size))
    part_of(there, box).copy_(part)
    return whole[0, 0], there


def resized(x: Tensor, size: Any) -> Tensor:
    """Bilinear with aligned corners, as everywhere in the stock code."""
    size = tuple(int(n) for n in size)
    if tuple(x.shape[2:]) == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def resized_channels(image: Tensor, size: Any) -> Tensor:
    """`resized` of one image (1, C, H, W), for which torch has a faster way channel by channel."""
    return resized(image.transpose(0, 1), size).transpose(0, 1)


def as_probabilities(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask that somebody gives, as float32 in [0, 1].

    Args:
        mask: (H, W), boolean, 0 and 255 in uint8, or probabilities.
        size: rows and columns of the image.

    Raises:
        ValueError: another size or range.
    """
    prob = np.asarray(mask)
    if prob.shape != tuple(size):
        raise ValueError(
            f"The mask has the shape {prob.shape}, the image {tuple(size)} (rows, columns)."
        )
    if prob.dtype == np.uint8 and prob.max() == 255 and not ((prob > 0) & (prob < 255)).any():
        prob = prob > 0
    prob = prob.astype(np.float32)
    if not (prob.min() >= 0 and prob.max() <= 1):
        raise ValueError(
            f"A mask is boolean or in [0, 1]; values run from {prob.min():g} to "
            f"{prob.max():g}. For an instance map pass `instances == label`."
        )
    return prob
