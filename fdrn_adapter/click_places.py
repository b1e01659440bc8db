"""Where a click lies, by what people pass as its coordinates."""

import math
import numbers

import numpy as np


def nearest_pixel(x: float, y: float, size: tuple[int, int]) -> tuple[int, int]:
    """The pixel of a click, whose coordinates may be fractions: pixel (0, 0) has its centre there.

    Args:
        x, y: column and row.
        size: rows and columns of the image.

    Raises:
        ValueError: no numbers, or outside the image.
    """
    rows, cols = size
    for value in (x, y):
        if not isinstance(value, numbers.Real | np.number | np.ndarray) or np.size(value) != 1:
            raise ValueError(f"A click's x and y are numbers, got x={x!r}, y={y!r}.")
    try:
        x, y = (float(np.asarray(value).reshape(())) for value in (x, y))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"A click's x and y are numbers, got x={x!r}, y={y!r}.") from error
    if not (_inside(x, cols) and _inside(y, rows)):
        raise ValueError(
            f"The click x={x}, y={y} is outside the image: x (column) runs from 0 to "
            f"{cols - 1}, y (row) from 0 to {rows - 1}."
        )
    return min(math.floor(x + 0.5), cols - 1), min(math.floor(y + 0.5), rows - 1)


def _inside(value: float, count: int) -> bool:
    return 0 <= value < count  # so that what lies on the last pixel's right half still counts
