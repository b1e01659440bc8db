"""FocalClick's zoom-in and predictor loop without work on the whole image for every click.

The stock predictor joins image and previous mask at full size, turns the full probability map into
logits and back, and looks for what changed in all of it. Here each step touches the region that was
zoomed into, and what the mask before covers; probabilities outside of the focus crop stay as they
are; and a part of the image that is in use is resized once. Results are those of the stock code
but for rounding.
"""

import importlib
import math
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fdrn_adapter.session.lean_ritm import (
    EVERYWHERE,
    Box,
    LeanZoomMixin,
    bounds,
    box_of,
    lean_class,
    written,
    zero_outside,
)

THRESHOLD = 0.49  # of the stock code, for logits of the coarse stage and probabilities alike
SIGMOID_OF_THRESHOLD = 1 / (1 + math.exp(-THRESHOLD))
FEW_PX = 10  # of a mask; below that the stock code takes the whole image
STRATEGY = "get_focus_cropv1"  # the focus crop of the stock predictor that is computed here


class LeanFocalZoomMixin(LeanZoomMixin):
    """For FocalClick's ZoomIn, which cuts and leaves resizing to `ResizeTrans`, and always cuts."""

    resize: Any = None  # the LeanResize that follows

    def _stays(self, found: tuple, clicks: list) -> bool:
        return False

    def _cut(self, image_nd: Tensor) -> Tensor:
        rmin, rmax, cmin, cmax = self._object_roi
        where = (..., slice(rmin, rmax + 1), slice(cmin, cmax + 1))
        self.resize.prev_mask = None if self.prev_mask is None else self.prev_mask[where]
        return image_nd[where]

    def _joined(self, image_nd: Tensor, mask: Tensor | None) -> Tensor:
        self.resize.prev_mask = mask
        return image_nd


class LeanResizeMixin:
    """For FocalClick's ResizeTrans: joins the image with the previous mask, resized one by one."""

    prev_mask: Tensor | None = None
    # Part of the image, and what it was resized to. The former keeps its memory from being reused.
    _kept: tuple[Tensor, Tensor] | None = None

    def transform(self, image_nd: Tensor, clicks_lists: list) -> tuple[Tensor, list]:
        """As the stock method on the image joined with `prev_mask`."""
        if self.prev_mask is None:
            return super().transform(image_nd, clicks_lists)
        mask, clicks_lists = super().transform(self.prev_mask, clicks_lists)
        if self._kept is None or not _same_view(self._kept[0], image_nd):
            self._kept = (image_nd, resized_channels(image_nd, mask.shape[2:]))
        return torch.cat([self._kept[1], mask], dim=1), clicks_lists


class LeanFocalMixin:
    """For the stock FocalPredictor with a lean zoom-in."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        names = [type(t).__name__ for t in self.transforms]
        at = names.index("ResizeTrans")
        self.transforms[at] = lean_class(type(self.transforms[at]), LeanResizeMixin)(self.crop_l)
        self.zoom_in.resize = self.transforms[at]

    def get_prediction(self, clicker: Any, prev_mask: Tensor | None = None) -> np.ndarray:
        """As the stock method; probabilities (H, W)."""
        clicks = clicker.get_clicks()
        before = self.prev_prediction if prev_mask is None else prev_mask
        size = tuple(before.shape[2:])
        covered = box_of(written(self.zoom_in) if prev_mask is None else EVERYWHERE, size)
        inputs = self._inputs(clicks, before)
        roi = self.zoom_in._object_roi
        self.global_roi = (0, size[0], 0, size[1]) if roi is None \
            else (roi[0], roi[1] + 1, roi[2], roi[3] + 1)
        pred_logits, feature = self._get_prediction(*inputs)
        coarse = self._on_region(pred_logits, inputs[0].shape[2:])
        self.last_y, self.last_x = clicks[-1].coords[0], clicks[-1].coords[1]
        y1, y2, x1, x2 = self.focus_roi = focus_crop(
            _crop_rules(type(self)), Part(coarse, self.global_roi, SIGMOID_OF_THRESHOLD),
            Part(_on(before, covered), covered, THRESHOLD), size, self.global_roi,
            (self.last_y, self.last_x), self.focus_crop_r,
        )
        refined = self._get_refine(
            pred_logits, self.original_image, clicks, feature, self.focus_roi,
            self.mapp_roi(self.focus_roi, self.global_roi),
        )
        refined = resized(refined, (y2 - y1, x2 - x1))
        region = self.global_roi
        if len(clicks) > 10:  # only the focus crop is changed from here on
            owned = covered if prev_mask is None else box_of(EVERYWHERE, size)
            region = union(owned, self.focus_roi)
            coarse = _on(self.prev_prediction, region).clone()
        top, left = y1 - region[0], x1 - region[2]
        coarse[:, :, top : top + y2 - y1, left : left + x2 - x1] = torch.sigmoid(refined)
        return self._keep(coarse, region, size)

    def _inputs(self, clicks: list, before: Tensor) -> tuple[Tensor, list, bool]:
        """The network's crop and clicks, and whether the crop is another than before."""
        zoom_in = self.zoom_in
        if getattr(self.net, "with_prev_mask", False):
            zoom_in.prev_mask = before
        try:
            return self.apply_transforms(self.original_image, [clicks])
        finally:
            zoom_in.prev_mask = zoom_in.resize.prev_mask = None

    def _on_region(self, logits: Tensor, crop_size: torch.Size) -> Tensor:
        """The coarse stage's probabilities on the region, in image pixels."""
        prob = resized(logits, crop_size)
        for transform in reversed(self.transforms):
            if transform is not self.zoom_in:
                prob = transform.inv_transform(prob)
        y1, y2, x1, x2 = self.global_roi
        return resized(prob, (y2 - y1, x2 - x1))

    def _get_refine(self, logits, image, clicks, feature, focus_roi, roi_in_crop) -> Tensor:
        """As the stock method, without the pictures that it makes for its evaluation."""
        (y1, y2, x1, x2), (top, bottom, left, right) = focus_roi, roi_in_crop
        focus = resized_channels(image[:, :, y1:y2, x1:x2], (self.crop_l, self.crop_l))
        points = self.get_points_nd_inbbox(clicks, y1, y2, x1, x2)
        box = torch.tensor([[0.0, left, top, right, bottom]], device=focus.device)
        return self.net.refine(focus, points, feature, logits, box)["instances_refined"]

    def _keep(self, prob: Tensor, region: Box, size: tuple[int, int]) -> np.ndarray:
        # numpy takes zeroed pages from the system when they are first touched
        whole = np.zeros((1, 1, *size), np.float32)
        rows, cols = slice(region[0], region[1]), slice(region[2], region[3])
        whole[:, :, rows, cols] = prob.cpu().numpy()
        self.prev_prediction = torch.from_numpy(whole).to(self.device)
        self.zoom_in._prev_probs = whole
        zero_outside(self.zoom_in, (rows, cols))
        return whole[0, 0]


# -- the focus crop ----------------------------------------------------------------------------


class Part:
    """What of a map of the image exceeds the threshold, known on a box and false outside of it.

    Args:
        values: (1, 1, h, w), on the box.
        box: rows and columns of the image.
        threshold: a pixel belongs to the mask above it.
    """

    def __init__(self, values: Tensor, box: Box, threshold: float):
        self.mask, self.box = values[0, 0].cpu().numpy() > threshold, box

    def on(self, box: Box) -> np.ndarray:
        """The mask on a box that holds its own."""
        if box == self.box:
            return self.mask
        wider = np.zeros((box[1] - box[0], box[3] - box[2]), bool)
        y1, y2, x1, x2 = self.box
        wider[y1 - box[0] : y2 - box[0], x1 - box[2] : x2 - box[2]] = self.mask
        return wider


def focus_crop(
    rules: ModuleType, now: Part, before: Part, size: tuple[int, int], limits: Box,
    click_rc: tuple[int, int], ratio: float,
) -> Box:
    """Where FocalClick refines: what changed around the click, widened; as the stock code.

    Args:
        rules: the module of the stock focus crops.
        now, before: the mask after and before this click.
        size: rows and columns of the image.
        limits: the region that was zoomed into.
        click_rc: row and column of the click.
        ratio: of the crop to what changed.

    Returns:
        first row, row beyond the last, first column, column beyond the last.
    """
    if before.mask.any():
        box = _changed_box(now, before, size, click_rc)
        changed, whole = (
            (b[1] - b[0], b[3] - b[2]) for b in (box, _bounds(now.mask, now.box, size))
        )
        if changed[0] < whole[0] / 3 or changed[1] < whole[1] / 3:
            (y, x), half = click_rc, 0.2 * max(whole)
            box = (y - half, y + half, x - half, x + half)
    else:
        box = _bounds(now.mask, now.box, size)
    y1, y2, x1, x2 = rules.expand_bbox(SimpleNamespace(shape=size), *box, ratio)
    return (
        max(y1, limits[0]), min(y2, limits[1]), max(x1, limits[2]), min(x2, limits[3]),
    )


def _changed_box(now: Part, before: Part, size: tuple[int, int], click_rc: tuple[int, int]) -> Box:
    """Bounds of the connected change under the click, or of all that did not change."""
    import cv2

    window = union(now.box, before.box)
    changed = now.on(window) ^ before.on(window)
    y, x = click_rc[0] - window[0], click_rc[1] - window[2]
    inside = 0 <= y < changed.shape[0] and 0 <= x < changed.shape[1]
    if inside and changed[y, x]:
        labels = cv2.connectedComponents(changed.view(np.uint8))[1]
        return _bounds(labels == labels[y, x], window, size)
    if size[0] * size[1] - np.count_nonzero(changed) < FEW_PX:
        return (0, size[0], 0, size[1])
    # Everything outside of the window is unchanged as well: one row and column of it will do.
    around = (max(0, window[0] - 1), min(size[0], window[1] + 1),
              max(0, window[2] - 1), min(size[1], window[3] + 1))
    unchanged = np.ones((around[1] - around[0], around[3] - around[2]), bool)
    top, left = window[0] - around[0], window[2] - around[2]
    unchanged[top : top + changed.shape[0], left : left + changed.shape[1]] = ~changed
    y1, y2, x1, x2 = _extent(unchanged, around)
    return (
        0 if y1 == around[0] else y1, size[0] - 1 if y2 == around[1] - 1 else y2,
        0 if x1 == around[2] else x1, size[1] - 1 if x2 == around[3] - 1 else x2,
    )


def _bounds(mask: np.ndarray, box: Box, size: tuple[int, int]) -> Box:
    """First and last row and column of a mask on a box; the whole image if it is tiny."""
    if np.count_nonzero(mask) < FEW_PX:
        return (0, size[0], 0, size[1])
    return _extent(mask, box)


def _extent(mask: np.ndarray, box: Box) -> Box:
    y1, y2, x1, x2 = bounds(mask)
    return (box[0] + y1, box[0] + y2, box[2] + x1, box[2] + x2)


# -- boxes and maps ----------------------------------------------------------------------------


def union(a: Box, b: Box) -> Box:
    """The smallest box that holds both; an empty one counts for nothing."""
    if a[0] >= a[1] or a[2] >= a[3]:
        return b
    if b[0] >= b[1] or b[2] >= b[3]:
        return a
    return (min(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), max(a[3], b[3]))


def _on(whole: Tensor, box: Box) -> Tensor:
    return whole[:, :, box[0] : box[1], box[2] : box[3]]


def _same_view(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same part of the same memory."""
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()


def resized(x: Tensor, size: Any) -> Tensor:
    """Bilinear with aligned corners, as everywhere in the stock code."""
    size = tuple(int(n) for n in size)
    if tuple(x.shape[2:]) == size:
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def resized_channels(image: Tensor, size: Any) -> Tensor:
    """`resized` of one image (1, C, H, W), for which torch has a faster way channel by channel."""
    return resized(image.transpose(0, 1), size).transpose(0, 1)


# -- the stock code ----------------------------------------------------------------------------


def fits(predictor: type) -> bool:
    """Whether a predictor class has the stock loop that is rewritten here."""
    code = getattr(predictor.get_prediction, "__code__", None)
    return code is not None and STRATEGY in code.co_names


def _crop_rules(predictor: type) -> ModuleType:
    for base in predictor.__mro__:
        if base.__module__.endswith(".focalclick"):
            package = base.__module__.partition(".")[0]
            return importlib.import_module(f"{package}.utils.crop_local")
    raise AssertionError(f"{predictor.__name__} is no FocalPredictor")
