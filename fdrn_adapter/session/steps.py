"""An object between two clicks, and the clicks."""

from dataclasses import dataclass

import numpy as np

from fdrn_adapter.session.lean_ritm import State


@dataclass(frozen=True)
class SessionClick:
    """A click in image pixels: x is the column, y the row."""

    x: int
    y: int
    positive: bool


@dataclass(frozen=True)
class Step:
    """An object after a click, or before the first. Never changed, so that objects may share it.

    Attributes:
        clicks: all so far.
        index_offset: of the clicks' order: 1 when the object started from a mask.
        state: of the pipeline.
    """

    clicks: tuple[SessionClick, ...]
    index_offset: int
    state: State

    @property
    def prob(self) -> np.ndarray | None:
        """(H, W) float32, None before the first click or mask."""
        return self.state.prob

    def mask(self, threshold: float) -> np.ndarray:
        """Where the probability exceeds a threshold, (H, W) bool."""
        mask = np.zeros(tuple(self.state.mask.shape[2:]), bool)
        if self.prob is not None:
            np.greater(self.prob[self.state.region], threshold, out=mask[self.state.region])
        return mask

    def score(self, threshold: float) -> float:
        """The mean probability inside of the mask, 0 where that is empty."""
        if self.prob is None:
            return 0.0
        inside = self.prob[self.state.region]
        inside = inside[inside > threshold]
        return float(inside.mean()) if inside.size else 0.0
