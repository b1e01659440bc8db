"""Prompts as tools send them, all in every request, and the order in which they were made."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fdrn_adapter.click_places import nearest_pixel
from fdrn_adapter.session.interactive import InteractiveSession, SessionClick
from fdrn_adapter.session.start_box import box_corners, clicks_of_box

SPACING_PX = 24.0  # between the clicks that stand for a scribble


@dataclass(frozen=True)
class Start:
    """What an object starts from.

    Attributes:
        key: tells starts apart, "" for nothing.
        value: corners of a box (x1, y1, x2, y2), a mask (H, W), or None.
        clicks: made by the start itself; a box makes one.
    """

    key: str = ""
    value: Any = field(default=None, compare=False)
    clicks: int = 0

    def begin(self, session: InteractiveSession) -> None:
        """Let the session's current object, which is new, start so."""
        if isinstance(self.value, tuple):
            session.set_box(*self.value)
        elif self.value is not None:
            session.set_mask(self.value)


@dataclass(frozen=True)
class Prompts:
    """All prompts of a request, as `PromptSession.predict` describes them."""

    positive: Sequence = ()
    negative: Sequence = ()
    box: Sequence[float] | None = None
    mask: np.ndarray | None = None
    previous: Sequence[SessionClick] | None = None
    scribbles: Sequence[tuple[Sequence, bool]] = ()

    def in_pixels(
        self, size: tuple[int, int]
    ) -> tuple[Start, list[SessionClick], list[SessionClick]]:
        """What the object starts from, its positive and its negative clicks.

        Args:
            size: rows and columns of the image.

        Raises:
            ValueError: something is outside of the image, or both box and mask are given.
        """
        if self.box is not None and self.mask is not None:
            raise ValueError("Start from a box or from a mask, not from both.")
        signs = {True: list(self.positive), False: list(self.negative)}
        for line, positive in self.scribbles:
            signs[bool(positive)] += scribble_points(line)
        start = Start()
        if self.box is not None:
            corners = box_corners(self.box, size)
            start = Start(f"box {corners}", corners, len(clicks_of_box(corners, size)))
        elif self.mask is not None:
            mask = np.ascontiguousarray(self.mask)
            digest = hashlib.blake2b(mask, digest_size=16).hexdigest()
            start = Start(f"mask {mask.dtype} {mask.shape} {digest}", mask)
        return start, *(pixel_clicks(signs[sign], sign, size) for sign in (True, False))

def pixel_clicks(
    points: Iterable[Sequence[float]], positive: bool, size: tuple[int, int]
) -> list[SessionClick]:
    """Points (x, y) of one sign as clicks on pixels.

    Raises:
        ValueError: no numbers, or outside of the image with `size` rows and columns.
    """
    clicks = []
    for point in points:
        try:
            x, y = (float(v) for v in point)
        except (TypeError, ValueError) as error:
            raise ValueError(f"A click is two numbers (x, y), got {point!r}.") from error
        clicks.append(SessionClick(*nearest_pixel(x, y, size), positive))
    return clicks


def merged(
    known: Sequence[SessionClick], positive: Sequence[SessionClick],
    negative: Sequence[SessionClick],
) -> tuple[int, list[SessionClick]]:
    """Clicks of two lists in one order, which goes on where a known one ends.

    Tools keep the order within each list. So the clicks of `known` count for as long as each is the
    next of its list; what is left follows, positive clicks first.

    Args:
        known: clicks in the order in which they were made.
        positive, negative: clicks as a tool sends them.

    Returns:
        how many of `known` count, and all clicks in order.
    """
    rest = {True: list(positive), False: list(negative)}
    kept = 0
    for click in known:
        if not rest[click.positive] or rest[click.positive][0] != click:
            break
        rest[click.positive].pop(0)
        kept += 1
    return kept, [*known[:kept], *rest[True], *rest[False]]


def scribble_points(
    line: Sequence[Sequence[float]], spacing_px: float = SPACING_PX
) -> list[tuple[float, float]]:
    """A drawn line as clicks on it, spaced evenly, its middle first: the ends are less certain.

    Args:
        line: (x, y) of its vertices, one at least.
        spacing_px: between two clicks along the line, about.
    """
    vertices = np.asarray(line, float).reshape(-1, 2)
    if not len(vertices):
        raise ValueError("A scribble needs one point at least.")
    steps = np.hypot(*np.diff(vertices, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    number = max(1, round(along[-1] / spacing_px))
    places = (np.arange(number) + 0.5) / number * along[-1]
    places = places[np.argsort(np.abs(places - along[-1] / 2), kind="stable")]
    return [
        (float(np.interp(p, along, vertices[:, 0])), float(np.interp(p, along, vertices[:, 1])))
        for p in places
    ]
