"""Simulated users: the stock click rule, and the misleading clicks of the paper's Table 3."""

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fdrn_adapter.label_maps import IGNORE

REPETITIVE, FALSE = "repetitive", "false"
NUM_MISLEADING = 5  # of 20 clicks (Sec. 4.2)


@dataclass(frozen=True)
class Click:
    """A click in image pixels: x is the column, y the row."""

    x: int
    y: int
    positive: bool


class ClickSimulator:
    """The next click lies in the middle of the largest mistake, as in the stock evaluation.

    Middle: the pixel farthest from the border of the false-negative or the false-positive region,
    whichever reaches farther; pixels that were clicked and regions that do not count are left out.
    When nothing is wrong any more, the stock rule gives a negative click at the top left corner;
    so does this one, click for click.

    Args:
        mask: (H, W): 1 the object, -1 what does not count.
    """

    def __init__(self, mask: np.ndarray):
        self._object = mask == 1
        self._counts = mask != IGNORE
        self._free = np.ones(mask.shape, bool)

    def next(self, prediction: np.ndarray) -> Click:
        """Where a user who sees `prediction`, (H, W) bool, clicks next; see `add`."""
        missed = self._distances(self._object & ~prediction & self._counts)
        excess = self._distances(~self._object & prediction & self._counts)
        positive = missed.max() > excess.max()
        distances = missed if positive else excess
        y, x = np.unravel_index(np.argmax(distances), distances.shape)
        return Click(int(x), int(y), bool(positive))

    def add(self, click: Click) -> None:
        """Remember that this pixel was clicked."""
        self._free[click.y, click.x] = False

    def _distances(self, region: np.ndarray) -> np.ndarray:
        """(H, W) float32: pixels to the region's border, the image's border being one, too.

        Without IPP, which OpenCV uses with one thread and whose roots are right or off by the last
        bit depending on where in memory the result lies: among pixels equally far away, the click
        would be another one in each run.
        """
        import cv2

        padded, ipp = np.pad(region, 1).astype(np.uint8), cv2.ipp.useIPP()
        cv2.ipp.setUseIPP(False)
        try:
            return cv2.distanceTransform(padded, cv2.DIST_L2, 0)[1:-1, 1:-1] * self._free
        finally:
            cv2.ipp.setUseIPP(ipp)

    @property
    def object(self) -> np.ndarray:
        """(H, W) bool, what is to be segmented."""
        return self._object


@dataclass(frozen=True)
class Misleading:
    """The definition of one misleading click.

    Attributes:
        number: which click, from 1.
        kind: "repetitive" or "false".
        place: in [0, 1): which of the pixels that qualify a repetitive click takes.
    """

    number: int
    kind: str
    place: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def misleading_definitions(sample_id: str, seed: int, clicks: int = 20) -> list[Misleading]:
    """Which clicks of a sample mislead, and how (Sec. 4.2, Table 3).

    Five of 20 at random positions (a quarter of any other number), each repetitive or false with
    equal chance. They depend on seed and sample id alone: every model meets the same ones, in
    whatever order or selection the samples are run.

    Args:
        sample_id: of the data set.
        seed: of the benchmark.
        clicks: how many a sample gets.
    """
    digest = hashlib.sha256(f"{seed}/{sample_id}".encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    number = max(1, round(clicks * NUM_MISLEADING / 20))
    numbers = np.sort(rng.choice(clicks, size=number, replace=False) + 1)
    kinds = rng.choice([REPETITIVE, FALSE], size=number)
    return [
        Misleading(int(n), str(kind), float(place))
        for n, kind, place in zip(numbers, kinds, rng.random(number), strict=True)
    ]


class MisleadingSimulator(ClickSimulator):
    """The stock rule, with some clicks replaced.

    False: the right place with the wrong sign. Repetitive: a positive click that says nothing new,
    on a pixel of the object which the current prediction contains already. (The paper says "within
    the previously predicted mask region"; outside the object such a click would be a false one.)
    Where the prediction has no such pixel, as at the first click, the click stays an honest one.

    Args:
        mask: as for `ClickSimulator`.
        definitions: see `misleading_definitions`.
    """

    def __init__(self, mask: np.ndarray, definitions: list[Misleading]):
        super().__init__(mask)
        self._definitions = {d.number: d for d in definitions}
        self._number = 0

    def next(self, prediction: np.ndarray) -> Click:
        self._number += 1
        definition = self._definitions.get(self._number)
        honest = super().next(prediction)
        if definition is None:
            return honest
        if definition.kind == FALSE:
            return Click(honest.x, honest.y, not honest.positive)
        known = np.flatnonzero(self.object & prediction)
        if not known.size:
            return honest
        index = known[int(definition.place * known.size)]
        y, x = np.unravel_index(index, prediction.shape)
        return Click(int(x), int(y), True)
