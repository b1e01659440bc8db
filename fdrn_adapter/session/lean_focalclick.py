"""FocalClick's zoom-in and predictor loop without work on the whole image for every click.

The stock predictor joins image and previous mask at full size, turns the full probability map into
logits and back, and looks for what changed in all of it. Here each step touches the region that was
zoomed into, and what the mask before covers; probabilities outside of the focus crop stay as they
are; and a part of the image that is in use is resized once. Results are those of the stock code
but for rounding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fdrn_adapter.session.focus_crop import Part, focus_crop
from fdrn_adapter.session.lean_ritm import LeanRitm, Look, State
from fdrn_adapter.session.regions import (
    Box,
    Roi,
    box_of,
    box_of_roi,
    on_whole,
    part_of,
    region_of,
    resized,
    resized_channels,
    union,
    whole_roi,
)

THRESHOLD = 0.49  # of the stock code, for logits of the coarse stage and probabilities alike
SIGMOID_OF_THRESHOLD = 1 / (1 + math.exp(-THRESHOLD))
STRATEGY = "get_focus_cropv1"  # the focus crop of the stock predictor that is computed here
MANY_CLICKS = 10  # beyond these only the focus crop is changed


@dataclass(frozen=True)
class Focus:
    """What the second stage is shown.

    Attributes:
        image: (1, 3, h, w), the focus crop.
        points: (1, 2N, 3) on it.
        boxes: (1, 5): index, x1, y1, x2, y2 of it on the coarse stage's crop.
        box: rows and columns of it on the image.
        coarse: (1, 1, H, W), the coarse stage's probabilities on the region zoomed into.
    """

    image: Tensor
    points: Tensor
    boxes: Tensor
    box: Box
    coarse: Tensor


class LeanFocalClick(LeanRitm):
    """The steps of a click around the two stages; the zoom-in is RITM's, made anew each time."""

    refines = True

    def __init__(self, rules: Any):
        super().__init__(rules)
        # Part of an image and what it was resized to. The former keeps its memory from being
        # reused.
        self._resized: tuple[Tensor, Tensor] | None = None

    def look(self, image: Tensor, clicks: Sequence, state: State) -> Look:
        """See `LeanRitm.look`; the crop is cut and then resized by FocalClick's `ResizeTrans`."""
        size = tuple(image.shape[2:])
        roi, zoomed = self.zoomed(clicks, state, size)
        shown = roi if zoomed else whole_roi(size)
        part = part_of(image, box_of_roi(shown))
        if zoomed:
            clicks = self.rules.moved(clicks, roi, part.shape[2:])
        if self.rules.takes_mask:
            mask, clicks = self.rules.resized(part_of(state.mask, box_of_roi(shown)), clicks)
            crop = torch.cat([self._resized_once(part, mask.shape[2:]), mask], dim=1)
        else:
            crop, clicks = self.rules.resized(part, clicks)
        crop, points = self.rules.points(crop, clicks)
        return Look(crop, points, shown, roi)

    def stays(self, roi: Roi, found: Roi, clicks: Sequence) -> bool:
        return False

    def _resized_once(self, part: Tensor, size: torch.Size) -> Tensor:
        if self._resized is None or not _same_view(self._resized[0], part):
            self._resized = (part, resized_channels(part, size))
        return self._resized[1]

    def focus(
        self, image: Tensor, clicks: Sequence, look: Look, logits: Tensor, state: State
    ) -> Focus:
        """Where the second stage is to look, after the coarse one."""
        size, region = tuple(image.shape[2:]), self._region(look, state)
        coarse = self._on_region(logits, look, region)
        covered = box_of(state.region, size)
        last = clicks[-1].coords
        box = focus_crop(
            self.rules.focus_rules, Part(coarse, region, SIGMOID_OF_THRESHOLD),
            Part(part_of(state.mask, covered), covered, THRESHOLD), size, region,
            (last[0], last[1]), self.rules.focus_ratio,
        )
        side = self.rules.crop_side
        top, bottom, left, right = self.rules.on_crop(box, region)
        return Focus(
            resized_channels(part_of(image, box), (side, side)),
            self.rules.focus_points(clicks, box),
            torch.tensor([[0.0, left, top, right, bottom]], device=image.device), box, coarse,
        )

    def merge_refined(
        self, look: Look, focus: Focus, refined: Tensor, state: State, num_clicks: int
    ) -> State:
        """The state after the click: refined where the second stage looked, coarse around it."""
        size, region = tuple(state.mask.shape[2:]), self._region(look, state)
        prob = focus.coarse
        y1, y2, x1, x2 = focus.box
        if num_clicks > MANY_CLICKS:
            region = union(box_of(state.region, size), focus.box)
            prob = part_of(state.mask, region).clone()
        top, left = y1 - region[0], x1 - region[2]
        refined = torch.sigmoid(resized(refined, (y2 - y1, x2 - x1)))
        prob[:, :, top : top + y2 - y1, left : left + x2 - x1] = refined
        whole, mask = on_whole(prob, region, size)
        return State(whole, mask, region_of(region), look.roi, look.shown, focus.box)

    def _region(self, look: Look, state: State) -> Box:
        """The region zoomed into, all of the image before that."""
        return box_of_roi(look.roi or whole_roi(tuple(state.mask.shape[2:])))

    def _on_region(self, logits: Tensor, look: Look, region: Box) -> Tensor:
        """The coarse stage's probabilities on the region, in image pixels."""
        prob = self.rules.probabilities(resized(logits, look.crop.shape[2:]))
        return resized(prob, (region[1] - region[0], region[3] - region[2]))


def fits(predictor: type) -> bool:
    """Whether a predictor class has the stock loop that is rewritten here."""
    loops = (vars(cls).get("get_prediction") for cls in predictor.__mro__)
    return any(STRATEGY in loop.__code__.co_names for loop in loops if hasattr(loop, "__code__"))


def _same_view(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same part of the same memory."""
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()
