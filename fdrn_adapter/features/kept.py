"""What was computed for recent rois of an encoding, so that an unchanged roi is aligned once.

It lies with the encoding and holds nothing of it: features that nobody has any more are freed at
once, without waiting for Python's collector of cycles.
"""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

# Rois whose alignment is kept per image: the crop in use, the one before (undo) and their mirrors.
KEPT_ALIGNMENTS = 4


class Kept:
    """Results by key, for one placement of one or several encodings. Thread safe."""

    def __init__(self) -> None:
        self._results: dict[tuple, tuple[Any, Any]] = {}
        self._lock = threading.Lock()

    def get(self, key: tuple, compute: Callable[[], Any], stamp: Any = None) -> Any:
        """The result under `key`, computed if it is not there or has another stamp."""
        with self._lock:
            found = self._results.get(key)
        if found is not None and found[0] == stamp:
            return found[1]
        made = compute()
        with self._lock:
            self._results[key] = (stamp, made)
        return made


class Alignments:
    """The last few placements of an encoding.

    Copies and pickles of features start empty: alignments are cheap to redo and large to carry.
    """

    def __init__(self) -> None:
        self._items: OrderedDict[tuple, tuple[tuple[weakref.ref, ...], Kept]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, placement: tuple, others: Sequence[Any]) -> Kept:
        """What was kept for a placement.

        Args:
            placement: rois and which image each is on.
            others: the encodings beside this one that the rois are on. A placement on encodings
                that are gone is another one.
        """
        key = (placement, tuple(map(id, others)))
        with self._lock:
            refs, kept = self._items.get(key, ((), None))
            if kept is None or any(ref() is None for ref in refs):
                refs, kept = tuple(map(weakref.ref, others)), Kept()
                self._items[key] = (refs, kept)
            self._items.move_to_end(key)
            while len(self._items) > KEPT_ALIGNMENTS:
                self._items.popitem(last=False)
        return kept

    def __deepcopy__(self, memo: dict) -> "Alignments":
        return Alignments()

    def __reduce__(self) -> tuple:
        return (Alignments, ())
