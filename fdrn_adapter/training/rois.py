"""Regions of interest for training, and what is cut out of them (Sec. 3.4, Fig. 3)."""

import random

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Roi = tuple[int, int, int, int]  # rmin, rmax, cmin, cmax, inclusive, image pixels


def sample_roi(
    mask: np.ndarray, proportion: tuple[float, float], draw: random.Random
) -> tuple[Roi, float]:
    """Draw a roi that contains the object, of a random proportion of the image (Sec. 3.4).

    The roi has the image's aspect ratio: the proportion p is that of its sides. p is uniform in the
    given range, cut off below at the smallest that holds the object; the place is uniform among
    those that do.

    Args:
        mask: (H, W), the object where above 0.5; without object any place will do.
        proportion: lowest and highest p, 0 < low <= high <= 1.
        draw: source of randomness.

    Returns:
        the roi, and the p that was drawn.
    """
    size = mask.shape
    spans = _spans(mask)
    needed = max(
        [(span[1] - span[0] + 1) / n for span, n in zip(spans, size, strict=True) if span] or [0]
    )
    low, high = proportion
    low = max(low, needed)
    p = draw.uniform(low, max(low, high))
    borders: list[int] = []
    for span, n in zip(spans, size, strict=True):
        length = min(n, max(round(p * n), 2 if n > 1 else 1))
        first, last = 0, n - length
        if span:
            length = min(n, max(length, span[1] - span[0] + 1))
            first, last = max(0, span[1] - length + 1), min(span[0], n - length)
        start = draw.randint(first, last)
        borders += [start, start + length - 1]
    return tuple(borders), p


def fixed_roi(mask: np.ndarray, margin: float, min_side: int) -> Roi:
    """The object with a margin, as the stock zoom-in cuts it; the whole image without object.

    What Table 7 calls a fixed proportion: the ablation of dynamic scale.

    Args:
        mask: (H, W), the object where above 0.5.
        margin: sides of the roi over those of the object (1.4 in the stock zoom-in).
        min_side: of the roi, pixels.
    """
    borders: list[int] = []
    for span, n in zip(_spans(mask), mask.shape, strict=True):
        if span is None:
            borders += [0, n - 1]
            continue
        middle, length = (span[0] + span[1]) / 2, max(min_side, margin * (span[1] - span[0] + 1))
        borders += [max(0, round(middle - length / 2)), min(n - 1, round(middle + length / 2))]
    return tuple(int(b) for b in borders)


def _spans(mask: np.ndarray) -> list[tuple[int, int] | None]:
    """First and last row, and first and last column, of the object; None without one."""
    x, y, cols, rows = cv2.boundingRect((mask > 0.5).astype(np.uint8))
    return [(y, y + rows - 1), (x, x + cols - 1)] if rows else [None, None]


def cut_image(image: np.ndarray, roi: Roi, size: tuple[int, int]) -> np.ndarray:
    """The crop that the stock zoom-in would give the network: bilinear, corners aligned.

    Args:
        image: (H, W, 3) uint8.
        roi: what to cut.
        size: rows and columns of the result.

    Returns:
        (*size, 3) uint8.
    """
    rmin, rmax, cmin, cmax = roi
    part = torch.from_numpy(image[rmin : rmax + 1, cmin : cmax + 1].copy())
    part = part.permute(2, 0, 1)[None].float()
    crop = F.interpolate(part, size, mode="bilinear", align_corners=True)
    return crop[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


def cut_mask(mask: np.ndarray, roi: Roi, size: tuple[int, int]) -> np.ndarray:
    """The nearest pixels of a mask or label map (H, W) or (H, W, L) under the cells of the crop."""
    rmin, rmax, cmin, cmax = roi
    rows = np.rint(np.linspace(rmin, rmax, size[0])).astype(int)
    cols = np.rint(np.linspace(cmin, cmax, size[1])).astype(int)
    return np.ascontiguousarray(mask[rows[:, None], cols[None]])


def shrink(image: np.ndarray, size: tuple[int, int]) -> Tensor:
    """The global image: all of it, resized the half-pixel way as the encoder's own cap does.

    Args:
        image: (H, W, 3) uint8.
        size: rows and columns.

    Returns:
        (3, *size) in [0, 1].
    """
    whole = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    resized = F.interpolate(whole, size, mode="bilinear", align_corners=False, antialias=True)
    return resized[0].clamp_(0, 1)


def roi_on_global(roi: Roi, image_size: tuple[int, int], global_size: tuple[int, int]) -> Tensor:
    """A roi in pixels of the global image, (4,) float64; it may reach over the border a little."""
    ratio = [g / n for g, n in zip(global_size, image_size, strict=True)]
    scale = torch.tensor([ratio[0], ratio[0], ratio[1], ratio[1]], dtype=torch.float64)
    return (torch.tensor(roi, dtype=torch.float64) + 0.5) * scale - 0.5
