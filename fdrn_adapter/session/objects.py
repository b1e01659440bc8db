"""The objects of an image: a list with names, each with its clicks, masks and steps to undo."""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fdrn_adapter import freed_memory
from fdrn_adapter.features.cache import content_key


@dataclass
class SessionObject:
    """One object: its steps, of which the first is the state before any click.

    Steps are never changed once they are made, so copies of an object share them.
    """

    name: str
    history: list[Any] = field(default_factory=list)
    now: int = -1
    box: tuple[int, int, int, int] | None = None  # that it started from, see `set_box`

    def first(self, clicks: int, name: str | None = None) -> "SessionObject":
        """A further object with the first clicks of this one; what they have in common is shared.
        """
        steps = self.history[: clicks + 1]
        return SessionObject(self.name if name is None else name, steps, clicks, self.box)


class Objects:
    """What InteractiveSession knows of objects; the current one is what clicks go to."""

    # Objects of images that were left, by the image's content, the last one last; see `set_image`.
    _left: OrderedDict[str, tuple[list[SessionObject], int]]
    _left_bytes: int  # of them at most; the last image's are always there

    def _start_objects(self) -> None:
        self._objects, self._index = [SessionObject("object 1")], 0

    def _leave_image(self) -> None:
        """Remember the current image's objects, for when it comes back."""
        if self.image is None or not any(len(o.history) > 1 for o in self._objects):
            return
        key = content_key(self.image)
        self._left[key] = (self._objects, self._index)
        self._left.move_to_end(key)
        total = sum(steps_nbytes(objects) for objects, _ in self._left.values())
        full = total > self._left_bytes
        while len(self._left) > 1 and total > self._left_bytes:
            total -= steps_nbytes(self._left.popitem(last=False)[1][0])
        if full:
            freed_memory.give_back()

    def _resume_image(self) -> bool:
        """Go on with the objects that the current image was left with; False if there are none."""
        found = self._left.pop(content_key(self.image), None) if self._left else None
        if found is not None:
            self._objects, self._index = found
            self._restore()
        return found is not None

    @property
    def _history(self) -> list[Any]:
        return self._objects[self._index].history

    @_history.setter
    def _history(self, steps: list[Any]) -> None:
        self._objects[self._index].history = steps

    @property
    def _now(self) -> int:
        return self._objects[self._index].now

    @_now.setter
    def _now(self, step: int) -> None:
        self._objects[self._index].now = step

    @property
    def objects(self) -> tuple[str, ...]:
        """The names of the image's objects, in their order; one at least."""
        return tuple(o.name for o in self._objects)

    @property
    def current_object(self) -> str:
        """The name of the object that clicks go to."""
        return self._objects[self._index].name

    def add_object(self, name: str | None = None) -> str:
        """Start on a further object, without clicks, and make it the current one.

        Unlike `reset_object`, what there is stays. Returns the name.

        Args:
            name: a new one; "object N" by default.

        Raises:
            RuntimeError: no image is set.
            ValueError: the name is taken.
        """
        self._require_image()
        self._append(SessionObject(self._new_name(name)))
        self.reset_object()
        return self.current_object

    def copy_object(self, clicks: int | None = None, name: str | None = None) -> str:
        """Start on a further object with the current one's first clicks; it becomes the current.

        Nothing is computed, and what the copies have in common is kept once.

        Args:
            clicks: how many, of those that are not undone; all by default.
            name: a new one; "object N" by default.

        Raises:
            RuntimeError: no image is set.
            ValueError: the name is taken, or there are not so many clicks.
        """
        self._require_image()
        number = self._now if clicks is None else clicks
        if not 0 <= number <= self._now:
            raise ValueError(f"The object has {self._now} clicks, {number} were to be copied.")
        self._append(self._objects[self._index].first(number, self._new_name(name)))
        self._restore()
        return self.current_object

    def select_object(self, name: str) -> np.ndarray:
        """Go on with an object as it was left, undo and redo included. Returns its mask.

        Raises:
            RuntimeError: no image is set.
            ValueError: there is no object of that name.
        """
        self._require_image()
        self._index = self._index_of(name)
        self._restore()
        return self.mask

    def delete_object(self, name: str) -> None:
        """Forget an object; if it was the current one, its neighbour is, or a new one.

        Raises:
            RuntimeError: no image is set.
            ValueError: there is no object of that name.
        """
        self._require_image()
        gone, current = self._index_of(name), self._objects[self._index]
        del self._objects[gone]
        if not self._objects:
            self._start_objects()
            self.reset_object()
        elif self._index != gone:
            self._index = self._objects.index(current)
        else:
            self._index = min(gone, len(self._objects) - 1)
            self._restore()

    def rename_object(self, name: str, new_name: str) -> None:
        """Give an object another name.

        Raises:
            ValueError: there is no object of that name, or the new one is taken.
        """
        found = self._objects[self._index_of(name)]
        if name != new_name:
            found.name = self._new_name(new_name)

    def move_object(self, name: str, place: int) -> None:
        """Change the order of objects; in `label_map`, later ones cover earlier ones.

        Args:
            name: of the object to be moved.
            place: its place afterwards, from 0.

        Raises:
            ValueError: there is no object of that name, or no such place.
        """
        if not 0 <= place < len(self._objects):
            raise ValueError(f"place is 0 to {len(self._objects) - 1}, got {place}.")
        current = self._objects[self._index]
        self._objects.insert(place, self._objects.pop(self._index_of(name)))
        self._index = self._objects.index(current)

    def object_mask(self, name: str) -> np.ndarray:
        """The mask of any object, (H, W) bool.

        Raises:
            RuntimeError: no image is set.
            ValueError: there is no object of that name.
        """
        self._require_image()
        found = self._objects[self._index_of(name)]
        return found.history[found.now].mask(self.threshold)

    def label_map(self) -> np.ndarray:
        """All objects in one map, (H, W) int32: 0 background, N the Nth of `objects`.

        Raises:
            RuntimeError: no image is set.
        """
        self._require_image()
        labels = np.zeros(self.image.shape[:2], np.int32)
        for number, name in enumerate(self.objects, 1):
            labels[self.object_mask(name)] = number
        return labels

    @property
    def nbytes(self) -> int:
        """About how many bytes the image and its objects take, features not included."""
        return self.image_nbytes + steps_nbytes(self._objects)

    @property
    def image_nbytes(self) -> int:
        """About how many bytes the image takes: as it is, in float32, and an empty mask."""
        return 0 if self.image is None else self.image.nbytes * 5 + self.image.nbytes // 3 * 4

    # -- several sessions on one image -----------------------------------------------------------

    def beside(self) -> "Objects":
        """A further session on the image, for another thread, without objects.

        Image and features are shared; nothing is computed.

        Raises:
            RuntimeError: no image is set.
        """
        self._require_image()
        other = type(self)(self.model, self.engine, feature_cache=self._cache, **self._options)
        other.pipeline.share(self.pipeline)
        other._image = self._image
        other._start_history(0)
        return other

    def work_on(self, given: SessionObject) -> None:
        """Let an object, also one of a session beside this, be the only one here.

        Nobody else may work on it meanwhile.

        Args:
            given: with steps on this image, or without any.

        Raises:
            RuntimeError: no image is set.
        """
        self._require_image()
        self._objects, self._index = [given], 0
        if given.history:
            self._restore()
        else:
            self.reset_object()

    def _append(self, new: SessionObject) -> None:
        self._objects.append(new)
        self._index = len(self._objects) - 1

    def _index_of(self, name: str) -> int:
        if name not in self.objects:
            raise ValueError(f"There is no object {name!r}; there are: {', '.join(self.objects)}.")
        return self.objects.index(name)

    def _new_name(self, name: str | None) -> str:
        if name is None:
            number = len(self._objects) + 1
            while (name := f"object {number}") in self.objects:
                number += 1
        elif name in self.objects:
            raise ValueError(f"There is an object {name!r} already; names are used once.")
        return name


def steps_nbytes(objects: Iterable[SessionObject]) -> int:
    """Bytes that the steps' probabilities and masks hold; what they share counts once."""
    held: dict[int, int] = {}
    for step in (s for o in objects for s in o.history):
        storage = step.state.mask.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        if (prob := step.prob) is not None:
            while isinstance(prob.base, np.ndarray):
                prob = prob.base
            held.setdefault(prob.ctypes.data, prob.nbytes)
    return sum(held.values())
