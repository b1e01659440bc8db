"""RITM's predictor loop without work on the whole image for every click.

The stock code joins image and previous mask at full size, thresholds, copies and searches the full
probability map, and writes a new one, for every click. Here each step touches the region that was
zoomed into, and nothing else. Results are the same to the bit as long as the region has up to
`JOINED_PX` pixels; beyond that image and mask are resized one by one, for which torch has another
kernel, and differ in the last bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fdrn_adapter.session.regions import (
    EVERYWHERE,
    Region,
    Roi,
    bounds,
    box_of_roi,
    on_whole,
    part_of,
    resized,
    whole_roi,
)

JOINED_PX = 2**19


@dataclass(frozen=True)
class State:
    """What a click on an object changes. Nothing of it is written to, so that snapshots share it.

    Attributes:
        prob: (H, W) float32, None before the first click or mask.
        mask: (1, 1, H, W), the same as the network's previous mask; zeros for None.
        region: rows and columns outside of which they are zero.
        roi: what the zoom-in settled on, None as long as it shows the whole image.
        shown: what the last click was shown of the image.
        focus: rows and columns that FocalClick refined.
        transforms: states of the stock transforms, where the stock loop runs.
    """

    prob: np.ndarray | None
    mask: Tensor
    region: Region
    roi: Roi | None = None
    shown: Roi | None = None
    focus: tuple[int, int, int, int] | None = None
    transforms: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Look:
    """What the network is shown for a click.

    Attributes:
        crop: (B, 3 or 4, h, w), with the previous mask; B is 2 with the mirrored crop.
        points: (B, 2N, 3) on the crop.
        shown: the part of the image that the crop shows.
        roi: what the zoom-in settles on, see `State`.
    """

    crop: Tensor
    points: Tensor
    shown: Roi
    roi: Roi | None


class LeanRitm:
    """The steps of a click around the network.

    Args:
        rules: the stock code's, see `pipeline.StockRules`.
    """

    refines = False

    def __init__(self, rules: Any):
        self.rules = rules

    def look(self, image: Tensor, clicks: Sequence, state: State) -> Look:
        """Cut out what the network is to see, as the stock zoom-in does.

        Args:
            image: (1, 3, H, W).
            clicks: the stock code's, all of the object.
            state: before the last click.
        """
        size = tuple(image.shape[2:])
        roi, zoomed = self.zoomed(clicks, state, size)
        parts = [image, state.mask] if self.rules.takes_mask else [image]
        if zoomed:
            crop = self._cut(parts, roi)
            clicks = self.rules.moved(clicks, roi, crop.shape[2:])
        else:
            crop = torch.cat(parts, dim=1) if len(parts) > 1 else image
        crop, points = self.rules.points(crop, clicks)
        return Look(crop, points, roi if zoomed else whole_roi(size), roi)

    def merge(self, look: Look, logits: Tensor, state: State) -> State:
        """The state after the click: logits of the crop become probabilities of the image."""
        prob = self.rules.probabilities(resized(logits, look.crop.shape[2:]))
        if look.roi is None:
            return State(prob.cpu().numpy()[0, 0], prob, EVERYWHERE, None, look.shown)
        box = box_of_roi(look.roi)
        part = resized(prob, (box[1] - box[0], box[3] - box[2]))
        whole, mask = on_whole(part, box, tuple(state.mask.shape[2:]))
        region = (slice(*box[:2]), slice(*box[2:]))
        return State(whole, mask, region, look.roi, look.shown)

    # -- the zoom-in ---------------------------------------------------------------------------

    def zoomed(
        self, clicks: Sequence, state: State, size: tuple[int, int]
    ) -> tuple[Roi | None, bool]:
        """The stock zoom-in's roi, and whether the network is to see that instead of the image."""
        rules = self.rules
        if len(clicks) <= rules.skip_clicks:
            return state.roi, False
        found = self._object_roi(clicks, state, size)
        if found is None:
            if rules.skip_clicks >= 0:
                return state.roi, False
            found = whole_roi(size)
        stays = state.roi is not None and self.stays(state.roi, found, clicks)
        return (state.roi if stays else found), True

    def stays(self, roi: Roi, found: Roi, clicks: Sequence) -> bool:
        """Whether the roi of the click before still serves."""
        return self.rules.stays(roi, found, clicks)

    def _object_roi(self, clicks: Sequence, state: State, size: tuple[int, int]) -> Roi | None:
        """The stock `get_object_roi` of the last mask, None where that is empty."""
        if state.prob is None:
            return None
        rows, cols = state.region
        found = bounds(state.prob[rows, cols] > self.rules.prob_thresh)
        if found is None:
            return None
        top, left = rows.start or 0, cols.start or 0
        points = [(int(c.coords[0]), int(c.coords[1])) for c in clicks if c.is_positive]
        r = [top + found[0], top + found[1], *(p[0] for p in points)]
        c = [left + found[2], left + found[3], *(p[1] for p in points)]
        return self.rules.widened((min(r), max(r), min(c), max(c)), size)

    def _cut(self, parts: list[Tensor], roi: Roi) -> Tensor:
        """The roi of image and previous mask, resized."""
        cut = [part_of(part, box_of_roi(roi)) for part in parts]
        if cut[0].shape[2] * cut[0].shape[3] <= JOINED_PX:
            cut = [torch.cat(cut, dim=1)]
        cut = [self.rules.crop(part) for part in cut]
        return cut[0] if len(cut) == 1 else torch.cat(cut, dim=1)
