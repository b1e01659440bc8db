"""Pixels under a click are as clicked, whatever the network says."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fdrn_adapter.session.lean_ritm import State

RADIUS_PX = 2  # on the crop: a part of the disk that the network sees, so that thin parts stay thin


def honoured(state: State, clicks: Sequence[Any], crop: int) -> None:
    """Set the probability under all clicks to what they say, the latest last; works in place.

    Args:
        state: of this click, which nobody else has yet.
        clicks: with x, y, positive, in image pixels.
        crop: side in pixels of the crop.
    """
    top, bottom, left, right = state.shown
    radius = max(1, round(RADIUS_PX * max(bottom - top + 1, right - left + 1) / crop))
    for click in clicks:
        box, disk = disk_at(click.x, click.y, radius, state.prob.shape)
        value = 1.0 if click.positive else 0.0
        state.prob[box][disk] = value
        if state.mask.device.type != "cpu" or not _shared(state):
            state.mask[0, 0][box][disk] = value


def _shared(state: State) -> bool:
    return np.shares_memory(state.prob, state.mask.numpy())


def disk_at(
    x: int, y: int, radius: int, size: tuple[int, int]
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Rows and columns around a pixel of an image of that size, and which of their pixels are in
    the disk."""
    rows = slice(max(0, y - radius), min(size[0], y + radius + 1))
    cols = slice(max(0, x - radius), min(size[1], x + radius + 1))
    r, c = np.ogrid[rows, cols]
    return (rows, cols), (r - y) ** 2 + (c - x) ** 2 <= radius**2
