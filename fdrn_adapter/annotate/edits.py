"""What people do to masks by hand: strokes of a brush, and corners that are dragged."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from fdrn_adapter.outlines import filled, outlines

MOST_POINTS = 100_000  # of a stroke or a polygon
_BITS = 4  # of fractions of a pixel, as OpenCV takes them


def brushed(
    mask: np.ndarray, points: Sequence[Sequence[float]], radius: float, erase: bool
) -> np.ndarray:
    """A mask (H, W) bool with a stroke of a round brush added or erased.

    Args:
        points: x, y in pixels, whose middles have whole numbers; one at least.
        radius: of the brush in pixels, 0.5 for a single pixel.
    """
    line = checked_points(points, 1)
    if not 0 < radius <= 10_000:
        raise ValueError(f"A brush has a radius of up to 10000 pixels, got {radius}.")
    drawn = np.zeros(mask.shape, np.uint8)
    places = np.round(line * 2**_BITS).astype(np.int32)
    for start, end in zip(places, places[1:], strict=False):
        cv2.line(drawn, start.tolist(), end.tolist(), 1, max(1, round(radius * 2)), 8, _BITS)
    around = max(0, round((radius - 0.5) * 2**_BITS))
    for place in places:
        cv2.circle(drawn, place.tolist(), around, 1, cv2.FILLED, 8, _BITS)
    return mask & (drawn == 0) if erase else mask | (drawn > 0)


def corners_of(mask: np.ndarray, tolerance_px: float) -> list[list[list[float]]]:
    """Rings of corners [x, y] of a mask, holes among them, in the coordinates of pixel edges."""
    return [
        ring.tolist() for border, holes in outlines(mask, tolerance_px) for ring in (border, *holes)
    ]


def reshaped(
    mask: np.ndarray, before: Sequence[Sequence], after: Sequence[Sequence]
) -> np.ndarray:
    """A mask (H, W) bool after corners were dragged: what they swept changes, nothing else.

    Args:
        before, after: rings of corners [x, y] in the coordinates of pixel edges.
    """
    old, new = ([checked_points(ring, 3) for ring in rings] for rings in (before, after))
    if not (old or new):
        return mask
    corners = np.concatenate([*old, *new])
    low = np.maximum(np.floor(corners.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, mask.shape[::-1])
    if (low >= high).any():
        return mask
    was, now = (
        filled([ring - low for ring in rings], (int(high[1] - low[1]), int(high[0] - low[0])))
        for rings in (old, new)
    )
    part = mask[low[1] : high[1], low[0] : high[0]]
    result = mask.copy()
    result[low[1] : high[1], low[0] : high[0]] = (part | (now & ~was)) & ~(was & ~now)
    return result


def checked_points(points: Any, least: int) -> np.ndarray:
    """Points [x, y] that a request brings, (N, 2).

    Raises:
        ValueError: no finite numbers, too few or too many.
    """
    try:
        found = np.asarray(points, float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Points are pairs of numbers, got {points!r:.60}.") from error
    if found.ndim != 2 or found.shape[1] != 2 or not least <= len(found) <= MOST_POINTS:
        raise ValueError(f"{least} points [x, y] are needed at least, got {points!r:.60}.")
    if not np.isfinite(found).all() or np.abs(found).max() > 2**20:
        raise ValueError(f"Points should be near the image, got {points!r:.60}.")
    return found
