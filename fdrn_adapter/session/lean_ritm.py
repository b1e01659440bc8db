"""The stock zoom-in and predictor loop of RITM without work on the whole image for every click.

The stock code joins image and previous mask at full size, thresholds, copies and searches the full
probability map, and writes a new one, for every click. Here each step touches the region that was
zoomed into, and nothing else. Results are the same to the bit as long as the region has up to
`JOINED_PX` pixels; beyond that image and mask are resized one by one, for which torch has another
kernel, and differ in the last bits.
"""

import functools
import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Box = tuple[int, int, int, int]  # first row, first row beyond; columns likewise

JOINED_PX = 2**19
EVERYWHERE = (slice(None), slice(None))
NOWHERE = (slice(0, 0), slice(0, 0))


class LeanZoomMixin:
    """For a stock ZoomIn, whose parameters, state and rules stay in force."""

    # The region outside of which `_prev_probs`, if it is the array kept beside it, is zero.
    _written: tuple[Any, tuple[slice, slice]] = (None, EVERYWHERE)
    # (B, 1, H, W), cut like the image and joined with its crop.
    prev_mask: Tensor | None = None
    # Whether the last `transform` cut anything out.
    zoomed = False

    def transform(self, image_nd: Tensor, clicks_lists: list) -> tuple[Tensor, list]:
        """As the stock method on the image joined with `prev_mask`."""
        self.image_changed = self.zoomed = False
        clicks = clicks_lists[0]
        if len(clicks) <= self.skip_clicks:
            return self._joined(image_nd, self.prev_mask), clicks_lists
        self._input_image_shape = image_nd.shape
        found = self._object_box(clicks)
        if found is None:
            if self.skip_clicks >= 0:
                return self._joined(image_nd, self.prev_mask), clicks_lists
            found = (0, image_nd.shape[2] - 1, 0, image_nd.shape[3] - 1)
        if self._object_roi is None or not self._stays(found, clicks):
            self._object_roi, self.image_changed = found, True
        self.zoomed = True
        self._roi_image = self._cut(image_nd)
        return self._roi_image, [self._transform_clicks(clicks)]

    def _stays(self, found: tuple, clicks: list) -> bool:
        """Whether the region of the click before still serves."""
        stock = self._stock
        return stock.check_object_roi(self._object_roi, clicks) \
            and stock.get_bbox_iou(found, self._object_roi) >= self.recompute_thresh_iou

    def _cut(self, image_nd: Tensor) -> Tensor:
        """The region of image and previous mask, resized."""
        rmin, rmax, cmin, cmax = self._object_roi
        size = (rmax - rmin + 1, cmax - cmin + 1)
        parts = [
            part[:, :, rmin : rmax + 1, cmin : cmax + 1]
            for part in (image_nd, self.prev_mask) if part is not None
        ]
        whole = (0, size[0] - 1, 0, size[1] - 1)
        if size[0] * size[1] <= JOINED_PX:
            parts = [torch.cat(parts, dim=1)]
        cut = [self._stock.get_roi_image_nd(part, whole, self.target_size) for part in parts]
        return cut[0] if len(cut) == 1 else torch.cat(cut, dim=1)

    def _joined(self, image_nd: Tensor, mask: Tensor | None) -> Tensor:
        return image_nd if mask is None else torch.cat([image_nd, mask], dim=1)

    def _object_box(self, clicks: list) -> tuple | None:
        """The stock `get_object_roi` of the last mask, None where that is empty."""
        probs = self._prev_probs
        if probs is None:
            return None
        rows, cols = written(self)
        found = bounds(probs[0, 0][rows, cols] > self.prob_thresh)
        if found is None:
            return None
        top, left = rows.start or 0, cols.start or 0
        points = [(int(c.coords[0]), int(c.coords[1])) for c in clicks if c.is_positive]
        r = [top + found[0], top + found[1], *(p[0] for p in points)]
        c = [left + found[2], left + found[3], *(p[1] for p in points)]
        box = self._stock.expand_bbox(
            (min(r), max(r), min(c), max(c)), self.expansion_ratio, self.min_crop_size
        )
        height, width = probs.shape[2:]
        return self._stock.clamp_bbox(box, 0, height - 1, 0, width - 1)

    def inv_transform(self, prob_map: Tensor) -> Tensor:
        """As the stock method."""
        if self._object_roi is None or prob_map.device.type != "cpu":
            return super().inv_transform(prob_map)
        rmin, rmax, cmin, cmax = self._object_roi
        part = F.interpolate(
            prob_map, (rmax - rmin + 1, cmax - cmin + 1), mode="bilinear", align_corners=True
        )
        where = (slice(rmin, rmax + 1), slice(cmin, cmax + 1))
        if self._prev_probs is not None and self._prev_probs.shape != part.shape:
            # numpy takes zeroed pages from the system when they are first touched
            whole = np.zeros(self._prev_probs.shape, part.numpy().dtype)
            whole[:, :, where[0], where[1]] = part.numpy()
            part = torch.from_numpy(whole)
        self._prev_probs = part.numpy()
        zero_outside(self, where)
        return part


def zero_outside(zoom_in: Any, where: tuple[slice, slice]) -> None:
    """Note that the last probability map of a zoom-in, stock or lean, is zero outside `where`."""
    zoom_in._written = (zoom_in._prev_probs, where)


def written(zoom_in: Any) -> tuple[slice, slice]:
    """Rows and columns outside of which the last probability map is known to be zero."""
    owner, where = getattr(zoom_in, "_written", (None, EVERYWHERE))
    return where if owner is zoom_in._prev_probs else EVERYWHERE


def box_of(where: tuple[slice, slice], size: tuple[int, int]) -> Box:
    """Slices of rows and columns as numbers."""
    (y1, y2, _), (x1, x2, _) = (s.indices(n) for s, n in zip(where, size, strict=True))
    return (y1, y2, x1, x2)


def extent(prob: np.ndarray) -> tuple[slice, slice]:
    """The smallest rows and columns that hold all of a map (H, W) that is not zero."""
    found = bounds(prob != 0)
    if found is None:
        return NOWHERE
    return (slice(found[0], found[1] + 1), slice(found[2], found[3] + 1))


def bounds(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """First and last row and column of a mask (H, W) bool, None where it is empty."""
    import cv2

    if not mask.size:
        return None
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    return (y, y + height - 1, x, x + width - 1) if width else None


class LeanPredictorMixin:
    """For a stock BasePredictor with a lean zoom-in."""

    def get_prediction(self, clicker: Any, prev_mask: Tensor | None = None) -> np.ndarray:
        """As the stock method; image and previous mask are cut each by itself."""
        if self.net.with_prev_mask:
            self.zoom_in.prev_mask = self.prev_prediction if prev_mask is None else prev_mask
        try:
            image_nd, clicks, changed = self.apply_transforms(
                self.original_image, [clicker.get_clicks()]
            )
        finally:
            self.zoom_in.prev_mask = None
        logits = self._get_prediction(image_nd, clicks, changed)
        size = image_nd.shape[2:]
        prediction = F.interpolate(logits, size, mode="bilinear", align_corners=True)
        for transform in reversed(self.transforms):
            prediction = transform.inv_transform(prediction)
        if self.zoom_in.check_possible_recalculation():
            return self.get_prediction(clicker)
        self.prev_prediction = prediction
        return prediction.cpu().numpy()[0, 0]


@functools.cache
def lean_class(stock: type, mixin: type) -> type:
    """A lean subclass of a stock predictor or transform."""
    module = importlib.import_module(stock.__module__)
    return type(f"Lean{stock.__name__}", (mixin, stock), {"_stock": module})
