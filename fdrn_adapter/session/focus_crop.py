"""Where FocalClick refines, found on the regions that can have changed instead of whole maps."""

from types import ModuleType, SimpleNamespace

import numpy as np
from torch import Tensor

from fdrn_adapter.session.regions import Box, bounds, union

FEW_PX = 10  # of a mask; below that the stock code takes the whole image


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
    (top, bottom), (left, right) = (
        # One pixel at least: the stock code fails on an object of one row or column.
        (max(first, least), max(min(last, most), max(first, least) + 1))
        for first, last, least, most in (
            (min(y1, limits[1] - 1), y2, *limits[:2]), (min(x1, limits[3] - 1), x2, *limits[2:]),
        )
    )
    return (top, bottom, left, right)


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
