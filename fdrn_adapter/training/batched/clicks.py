"""A simulated annotator, for a whole batch at once on its device."""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

THRESHOLD = 0.49  # of a prediction, from which a pixel is of the object


def depth(mask: Tensor) -> Tensor:
    """How deep each pixel lies in its region, pixels; beyond the border of the crop is outside.

    On the CPU the Euclidean distance, as in the stock click simulation. On a GPU, where that has no
    kernel, the distance of an octagon (erosions by squares and crosses in turn), at half the
    resolution for crops of more than 100 pixels.

    Args:
        mask: (B, K, H, W) bool.

    Returns:
        (B, K, H, W) float, 0 outside.
    """
    if mask.device.type == "cpu":
        regions = mask.flatten(0, 1).numpy().astype(np.uint8)
        found = [
            cv2.distanceTransform(np.pad(r, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
            if r.any() else np.zeros(r.shape, np.float32)
            for r in regions
        ]
        return torch.from_numpy(np.stack(found)).view(mask.shape)
    if mask.shape[-1] > 100:
        small = F.max_pool2d(mask.float(), 2) > 0
        deep = 2 * depth_by_erosions(small)
        return deep.repeat_interleave(2, -1).repeat_interleave(2, -2) * mask
    return depth_by_erosions(mask)


def depth_by_erosions(mask: Tensor) -> Tensor:
    """See `depth`: how many erosions a pixel outlasts, with itself."""
    left = F.pad(mask.float(), (1, 1, 1, 1))
    total = left.clone()
    for i in range(max(mask.shape[-2:]) // 2):
        gone = 1 - left
        if i % 2:
            gone = F.max_pool2d(gone, 3, 1, 1)
        else:
            gone = torch.maximum(
                F.max_pool2d(gone, (3, 1), 1, (1, 0)), F.max_pool2d(gone, (1, 3), 1, (0, 1))
            )
        left = 1 - gone
        total = total + left
    return total[..., 1:-1, 1:-1]


def pick(where: Tensor, generator: torch.Generator) -> Tensor:
    """One random pixel of each mask (B, H, W): (B, 2) row, column. Of an empty one: anything."""
    noise = torch.rand(where.shape, device=where.device, generator=generator)
    at = ((noise + 1e-6) * where).flatten(1).argmax(1)
    cols = where.shape[2]
    return torch.stack([at.div(cols, rounding_mode="floor"), at % cols], 1).float()


def grown(mask: Tensor, radius: int) -> Tensor:
    """A mask (B, 1, H, W) as floats, each pixel spread over a square of 2 radius + 1."""
    side = 2 * radius + 1
    rows = F.max_pool2d(mask.float(), (side, 1), 1, (radius, 0))
    return F.max_pool2d(rows, (1, side), 1, (0, radius))


class Clicks:
    """The clicks of a batch, in the stock layout.

    Args:
        batch: samples.
        limit: most clicks of each sign.
        device: of the points.

    Attributes:
        points: (B, 2 limit, 3) rows of (row, col, order), positive then negative, -1 for padding.
        counts: (B, 2) clicks of each sign.
    """

    def __init__(self, batch: int, limit: int, device: torch.device | str = "cpu"):
        self.points = torch.full((batch, 2 * limit, 3), -1.0, device=device)
        self.counts = torch.zeros(batch, 2, dtype=torch.long, device=device)
        self.limit = limit

    def add(self, at: Tensor, negative: Tensor, active: Tensor) -> None:
        """One click more for samples that are active and have room. New tensors, none changed.

        Args:
            at: (B, 2) row and column.
            negative, active: (B,) bool.
        """
        sign = negative.long()
        slot = self.counts.gather(1, sign[:, None])[:, 0]
        active = active & (slot < self.limit)
        row = torch.cat([at, self.counts.sum(1, keepdim=True).float()], 1)
        place = (sign * self.limit + slot).clamp(max=2 * self.limit - 1)
        batch = torch.arange(len(at), device=at.device)
        points = self.points.clone()
        points[batch, place] = torch.where(active[:, None], row, points[batch, place])
        self.points = points
        self.counts = self.counts.scatter_add(1, sign[:, None], active.long()[:, None])

    def where(self, chosen: Tensor, other: "Clicks") -> None:
        """Take another's clicks in samples that are not chosen; works in place.

        Args:
            chosen: (B,) bool.
            other: with the same batch and limit.
        """
        self.points = torch.where(chosen[:, None, None], self.points, other.points)
        self.counts = torch.where(chosen[:, None], self.counts, other.counts)

    def copy(self) -> "Clicks":
        made = Clicks(0, self.limit, self.points.device)
        made.points, made.counts = self.points, self.counts
        return made


def first_clicks(
    clicks: Clicks, mask: Tensor, void: Tensor, generator: torch.Generator, extra: int = 4
) -> None:
    """One click near the middle of the object; in half of the samples up to `extra` random ones.

    Half of the random ones are on the object, half around it. Works in place.

    Args:
        mask: (B, 1, H, W) bool, the objects; an empty one gets no click that is inside.
        void: (B, 1, H, W) bool, where nobody clicks.
    """
    batch, device, side = len(mask), mask.device, mask.shape[-1]
    deep = depth(mask)[:, 0]
    level = torch.where(_uniform(batch, device, generator) < 0.5, 0.9, 0.5) * deep.amax((1, 2))
    here = mask.flatten(1).any(1)  # a thin object can be lost between the pixels of a crop
    no = torch.zeros_like(here)
    clicks.add(pick((deep >= level[:, None, None]) & (deep > 0), generator), no, here)
    count = torch.randint(0, extra + 1, (batch,), device=device, generator=generator)
    count = count * (_uniform(batch, device, generator) < 0.5)
    around = (grown(mask, side // 8)[:, 0] > 0) & ~mask[:, 0] & ~void[:, 0]
    for i in range(extra):
        negative = _uniform(batch, device, generator) < 0.5
        where = torch.where(negative[:, None, None], around, mask[:, 0])
        clicks.add(pick(where, generator), negative, (i < count) & where.flatten(1).any(1))


def answer(
    clicks: Clicks, probability: Tensor, mask: Tensor, void: Tensor, generator: torch.Generator,
    threshold: Tensor | float = THRESHOLD,
) -> None:
    """The next click: in the deeper of the false regions, near its middle. Works in place.

    Args:
        probability: (B, 1, H, W) what was predicted.
        mask, void: (B, 1, H, W) bool.
        threshold: a number, or (B, 1, 1, 1).
    """
    found = probability > threshold
    errors = torch.cat([mask & ~found, found & ~mask], 1) & ~void
    deep = depth(errors)
    deepest = deep.amax((2, 3))
    negative = deepest[:, 1] > deepest[:, 0]
    chosen = torch.where(negative[:, None, None], deep[:, 1], deep[:, 0])
    peak = deepest.amax(1)
    level = (0.5 + 0.5 * _uniform(len(mask), mask.device, generator)) * peak
    clicks.add(
        pick((chosen >= level[:, None, None]) & (chosen > 0), generator), negative, peak > 0
    )


def _uniform(count: int, device: torch.device, generator: torch.Generator) -> Tensor:
    return torch.rand(count, device=device, generator=generator)
