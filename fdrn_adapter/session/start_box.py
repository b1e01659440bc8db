"""An object that starts from a box around it: what stands for the box, and the clicks it makes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

Box = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels, inclusive

BESIDE = 0.05  # of the box's longer side: how far outside of it the negative clicks lie
LIKELY = 0.7  # the probability of the object in the ellipse, before the clicks


class StartBox:
    """What InteractiveSession does with boxes.

    Networks that were trained with clicks know no boxes. Of the readings that were tried
    (docs/integrations.md) the best is taken: the ellipse in the box is likely before the first
    click, negative ones outside of each side come first, one in the middle last, and what is found
    outside of the box is cut off.
    """

    def set_box(self, x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
        """Start on an object from a box around it; clicks then correct it. Returns the mask.

        The clicks that stand for the box are among `clicks`, and `undo` takes them back one by one.

        Args:
            x1, y1, x2, y2: any two opposite corners, column and row in image pixels.

        Raises:
            RuntimeError: no image is set.
            ValueError: no part of it is on the image, or a network without previous mask. The
                session stays as it was.
        """
        self._require_image()
        size = self.image.shape[:2]
        corners = box_corners((x1, y1, x2, y2), size)
        self.set_mask(_ellipse(corners, size) * np.float32(LIKELY))
        self.add_clicks(clicks_of_box(corners, size))
        self._cut_off(corners)
        self._objects[self._index].box = corners
        return self.mask

    def _cut_off(self, corners: Box) -> None:
        """Let the last step have nothing outside of the box."""
        x1, y1, x2, y2 = corners
        self.pipeline.cut_off((y1, y2 + 1, x1, x2 + 1))
        step = self._step
        self._history[self._now] = replace(step, state=self.pipeline.snapshot())


def clicks_of_box(corners: Box, size: tuple[int, int]) -> list[tuple[int, int, bool]]:
    """The clicks (x, y, positive) that stand for a box; those outside of the image are left out."""
    x1, y1, x2, y2 = corners
    x, y = (x1 + x2) // 2, (y1 + y2) // 2
    away = max(3, int(BESIDE * max(x2 - x1, y2 - y1)))
    beside = [(x1 - away, y), (x2 + away, y), (x, y1 - away), (x, y2 + away)]
    rows, cols = size
    outside = [(u, v, False) for u, v in beside if 0 <= u < cols and 0 <= v < rows]
    return [*outside, (x, y, True)]


def _ellipse(corners: Box, size: tuple[int, int]) -> np.ndarray:
    x1, y1, x2, y2 = corners
    y, x = np.ogrid[: size[0], : size[1]]
    across = (x - (x1 + x2) / 2) / max((x2 - x1) / 2, 1)
    down = (y - (y1 + y2) / 2) / max((y2 - y1) / 2, 1)
    return across**2 + down**2 <= 1


def box_corners(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box (x1, y1, x2, y2), any two opposite corners, as whole pixels inside of the image.

    Raises:
        ValueError: not four numbers, or nothing of it is on the image.
    """
    try:
        x1, y1, x2, y2 = (float(v) for v in box)
    except (TypeError, ValueError) as error:
        raise ValueError(f"A box is four numbers (x1, y1, x2, y2), got {box!r}.") from error
    rows, cols = size
    if not np.isfinite([x1, y1, x2, y2]).all() or max(x1, x2) < 0 or max(y1, y2) < 0 \
            or min(x1, x2) >= cols or min(y1, y2) >= rows:
        raise ValueError(f"The box {box} is outside of the image of {cols} x {rows} pixels.")
    left, right = (round(min(max(x, 0), cols - 1)) for x in sorted((x1, x2)))
    top, bottom = (round(min(max(y, 0), rows - 1)) for y in sorted((y1, y2)))
    return left, top, right, bottom
