"""Rois around objects, what is cut out of them, and shaken colours."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fdrn_adapter.training.batched.pictures import VOID

ZOOM = (1.1, 2.2)  # of the object's box
LEAST_PX = (60, 200)  # shortest sides of a roi are drawn from here, in pixels of the picture


def rois_around(
    boxes: Tensor, sizes: Tensor, generator: torch.Generator, whole: float = 0.25
) -> Tensor:
    """A roi for each object: the whole picture, or its box times 1.1 to 2.2, jittered.

    Args:
        boxes: (B, 4) rmin, rmax, cmin, cmax of the objects, inclusive.
        sizes: (B, 2) rows and columns of their pictures.
        whole: share of whole pictures.

    Returns:
        (B, 4) whole numbers in float64: rmin, rmax, cmin, cmax, inclusive, inside of the picture.
        The box is inside of its roi.
    """
    boxes, sizes = boxes.double(), sizes.double()

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(boxes), generator=generator).double()

    zoom, least = uniform(*ZOOM), uniform(*LEAST_PX)
    ends = []
    for axis in (0, 1):
        first, last = boxes[:, 2 * axis], boxes[:, 2 * axis + 1]
        box, side = last - first + 1, sizes[:, axis]
        length = (box * zoom * uniform(0.9, 1.1)).maximum(least).maximum(box).minimum(side).ceil()
        start = (first + last) / 2 - (length - 1) / 2 + uniform(-0.5, 0.5) * (length - box)
        start = start.round().minimum(first).maximum(last + 1 - length)
        start = start.clamp(min=0).minimum(side - length)
        ends += [start, start + length - 1]
    around = torch.stack(ends, 1)
    none = torch.zeros(len(boxes), dtype=torch.float64)
    everything = torch.stack([none, sizes[:, 0] - 1, none, sizes[:, 1] - 1], 1)
    return torch.where((uniform(0, 1) < whole)[:, None], everything, around)


def cut(
    pixels: list[Tensor], labels: Tensor, rois: Tensor, size: int, mirrored: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Crops of size x size pixels, as the stock code resizes them (aligned corners).

    Args:
        pixels: B pictures (4, h, w) uint8: RGB and labels.
        labels: (B,) of the objects.
        rois: (B, 4) whole numbers, in the pictures as they are.
        mirrored: mirror the crops.

    Returns:
        images (B, 3, S, S) in [0, 1], and bool (B, 1, S, S): the objects, other objects, void.
    """
    images, planes = [], []
    for picture, label, (r0, r1, c0, c1) in zip(
        pixels, labels.tolist(), rois.long().tolist(), strict=True
    ):
        part = picture[:, r0 : r1 + 1, c0 : c1 + 1]
        if mirrored:
            part = part.flip(-1)
        names = part[3]
        three = torch.stack(
            [names == label, (names != label) & (names != 0) & (names != VOID), names == VOID]
        )
        both = torch.cat([part[:3].float() / 255, three.float()])[None]
        both = F.interpolate(both, (size, size), mode="bilinear", align_corners=True)
        images.append(both[:, :3])
        planes.append(both[:, 3:] > 0.5)
    mask, others, void = torch.cat(planes).split(1, 1)
    return torch.cat(images), mask, others, void


def mirrored_rois(rois: Tensor, side: int) -> Tensor:
    """Rois (B, 4) on the mirror of a canvas of `side` columns."""
    last = side - 1
    return torch.stack([rois[:, 0], rois[:, 1], last - rois[:, 3], last - rois[:, 2]], 1)


def shaken(images: Tensor, generator: torch.Generator) -> Tensor:
    """Contrast, brightness, tint and saturation of three quarters of the images, within [0, 1]."""
    batch, device = len(images), images.device

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        u = torch.rand(batch, channels, 1, 1, device=device, generator=generator)
        return low + (high - low) * u

    mean = images.mean((2, 3), keepdim=True)
    x = (images - mean) * uniform(0.7, 1.3) + mean + uniform(-0.12, 0.12) + uniform(-0.06, 0.06, 3)
    gray = x.mean(1, keepdim=True)
    x = gray + (x - gray) * uniform(0.5, 1.4)
    return torch.where(uniform(0, 1) < 0.75, x, images).clamp(0, 1)
