"""Changes of clicks beyond adding one: several at once, moved, removed, and tried out."""

from collections.abc import Iterable, Sequence

import numpy as np


class Edits:
    """What InteractiveSession does to the clicks of its current object, by replaying them."""

    def add_clicks(self, clicks: Iterable[Sequence]) -> np.ndarray:
        """Click several times, as `add_click` one by one; all of them or none. Returns the mask.

        Args:
            clicks: (x, y, positive) each.

        Raises:
            RuntimeError: no image is set.
            ValueError: one is outside the image; none is made.
        """
        self._require_image()
        for click in clicks:
            try:
                x, y, positive = click
            except (TypeError, ValueError) as error:
                raise ValueError(f"A click is (x, y, positive), got {click!r}.") from error
            self.add_click(x, y, positive)
        return self.mask

    def remove_click(self, index: int) -> np.ndarray:
        """Take any click back; later ones are made again. Returns the mask.

        Args:
            index: of `clicks`; -1 is the last, as `undo`, except that nothing can be redone.

        Raises:
            RuntimeError: no image is set.
            IndexError: there is no such click.
        """
        number = self._click_number(index)
        return self._replay(number, self.clicks[number + 1 :])

    def move_click(self, index: int, x: float, y: float) -> np.ndarray:
        """Put a click elsewhere; later ones are made again. Returns the mask.

        Args:
            index: of `clicks`; -1 is the last.
            x, y: column and row in image pixels.

        Raises:
            RuntimeError: no image is set.
            IndexError: there is no such click.
            ValueError: outside the image. The session stays as it was in either case.
        """
        number = self._click_number(index)
        moved = (x, y, self.clicks[number].positive)
        return self._replay(number, [moved, *self.clicks[number + 1 :]])

    def keep_clicks(self, number: int) -> np.ndarray:
        """Undo or redo until the object has so many clicks. Returns the mask.

        Raises:
            RuntimeError: no image is set.
            ValueError: there are not so many, undone ones included.
        """
        self._require_image()
        if not 0 <= number < len(self._history):
            raise ValueError(f"The object has {len(self._history) - 1} clicks, not {number}.")
        self._now = number
        self._restore()
        return self.mask

    def peek(self, x: float, y: float, positive: bool = True) -> np.ndarray:
        """The mask that a click would give, (H, W) bool, without making it; for previews.

        Raises:
            RuntimeError: no image is set.
            ValueError: outside the image.
        """
        self._require_image()
        before = self._everything()
        try:
            return self.add_click(x, y, positive)
        finally:
            self._put_back(before)

    def _click_number(self, index: int) -> int:
        self._require_image()
        count = len(self.clicks)
        if not -count <= index < count:
            raise IndexError(f"There is no click {index}: the object has {count}.")
        return index % count

    def _replay(self, kept: int, clicks: Sequence) -> np.ndarray:
        self.keep_clicks(kept)
        del self._history[kept + 1 :]
        return self.add_clicks([_as_tuple(click) for click in clicks])


def _as_tuple(click) -> tuple:
    return click if isinstance(click, tuple) else (click.x, click.y, click.positive)


def as_sign(positive: bool) -> bool:
    """Whether a click is on the object.

    Raises:
        ValueError: neither a bool nor 0 or 1.
    """
    if isinstance(positive, bool | np.bool_ | int | np.integer) and positive in (0, 1):
        return bool(positive)
    raise ValueError(
        f"positive is True (on the object) or False, got {positive!r}; of -1 and 1 pass value > 0."
    )
