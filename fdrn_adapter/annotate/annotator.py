"""What the page asks for: photographs, their state, steps on them, previews, outlines."""

import threading
import time
from collections.abc import Collection
from typing import Any

import numpy as np

from fdrn_adapter.annotate import edits
from fdrn_adapter.annotate.masks import PackedMask, change
from fdrn_adapter.annotate.pictures import Photograph
from fdrn_adapter.annotate.project import Project
from fdrn_adapter.annotate.record import COLOURS, ObjectVersion, Record
from fdrn_adapter.annotate.steps import LONGEST_TEXT, Steps
from fdrn_adapter.images import read_image
from fdrn_adapter.serving.bridge import PromptSession


class StaleError(Exception):
    """The page does not know the last step, which another one made."""


class Annotator:
    """Steps on the records of a project.

    Args:
        project: with the photographs.
        bridge: with the network.
    """

    def __init__(self, project: Project, bridge: PromptSession):
        self.project, self.bridge = project, bridge
        self._photographs: dict[str, Photograph] = {}
        self._steps = Steps(bridge)
        self._lock = threading.Lock()

    @property
    def actions(self) -> Collection[str]:
        """The names of steps."""
        return self._steps.actions

    # -- what is asked -------------------------------------------------------------------------

    def open(self, name: str) -> dict[str, Any]:
        """Encode a photograph, and give all that is known of it."""
        with self._lock:
            photograph = self._photograph(name)
            record = self.project.record(name, photograph.size)
            self.bridge.open(photograph.read, photograph.key)
            self._steps.opened(name)
            return self._answer(record, (), record.objects)

    def prepare(self, name: str) -> dict[str, Any]:
        """Encode a photograph that may be opened soon."""
        photograph = self._photograph(name)
        self.bridge.open(photograph.read, photograph.key)
        return {}

    def state(self, name: str) -> dict[str, Any]:
        """All that is known of a photograph."""
        with self._lock:
            record = self.project.record(name, self._photograph(name).size)
            return self._answer(record, (), record.objects)

    def revision(self, name: str) -> dict[str, Any]:
        """The number of the last step, for pages that were in the background."""
        with self._lock:
            return {"revision": self.project.record(name, self._photograph(name).size).revision}

    def act(self, name: str, action: str, body: dict[str, Any]) -> dict[str, Any]:
        """Make a step.

        Args:
            name: of the photograph.
            action: one of `actions`.
            body: "revision" that the page knows, "object" for the number of one or null for a new
                one, and what the action needs.

        Raises:
            StaleError: the page does not know the last step.
            ValueError: the step is not possible; nothing changed.
        """
        with self._lock:
            photograph = self._photograph(name)
            record = self.project.record(name, photograph.size)
            if body.get("revision") != record.revision:
                raise StaleError
            before, revision, start = record.objects, record.revision, time.perf_counter()
            touched = self._steps.make(action, photograph, record, body)
            if record.revision != revision:
                self.project.changed(name)
            answer = self._answer(record, before, record.objects)
            answer["object"] = None if touched is None else touched.id
            answer["network_ms"] = round(self._steps.network_s * 1e3, 2)
            answer["server_ms"] = round((time.perf_counter() - start) * 1e3, 2)
            return answer

    def mark(self, name: str, finished: bool) -> dict[str, Any]:
        """Say that a photograph is done, or is not."""
        with self._lock:
            record = self.project.record(name, self._photograph(name).size)
            if record.finished != finished:
                record.finished = finished
                record.revision += 1
                self.project.changed(name)
            return self._answer(record, record.objects, record.objects)

    def peek(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """What a click would change of an object's mask; nothing is remembered."""
        with self._lock:
            photograph = self._photograph(name)
            record = self.project.record(name, photograph.size)
            version, mask = self._steps.peek(photograph, record, body)
            return {"revision": record.revision, "mask": change(version.mask, PackedMask.of(mask))}

    def corners(self, name: str, number: int, tolerance_px: float) -> dict[str, Any]:
        """An object's outline as corners to be dragged."""
        with self._lock:
            record = self.project.record(name, self._photograph(name).size)
            mask = record.object(number).mask.array
            return {"revision": record.revision, "rings": edits.corners_of(mask, tolerance_px)}

    def add_objects(self, name: str, found: list[tuple[str, np.ndarray]]) -> int:
        """Put masks of a file on a photograph, as one step. Returns how many.

        Args:
            name: of the photograph.
            found: (class, mask) of each.

        Raises:
            ValueError: a mask is of another size.
        """
        with self._lock:
            photograph = self._photograph(name)
            record = self.project.record(name, photograph.size)
            objects = list(record.objects)
            for category, mask in found:
                if mask.shape != photograph.size:
                    rows, cols = photograph.size
                    raise ValueError(
                        f"A mask has {mask.shape[1]} x {mask.shape[0]} pixels, {name} has "
                        f"{cols} x {rows}."
                    )
                packed = PackedMask.of(mask)
                number = max([record.last_id, *(o.id for o in objects)]) + 1
                objects.append(ObjectVersion(
                    number, f"object {len(objects) + 1}", category[:LONGEST_TEXT],
                    COLOURS[(number - 1) % len(COLOURS)], packed, start=packed, done=True,
                ))
            if found:
                record.step(objects, "import")
                self.project.changed(name)
            return len(found)

    # -- helpers -------------------------------------------------------------------------------

    def _photograph(self, name: str) -> Photograph:
        path = self.project.path(name)
        stat = path.stat()
        key = f"{name} {stat.st_mtime_ns} {stat.st_size}"
        known = self._photographs.get(name)
        if known is None or known.key != key:
            first = [read_image(path)]  # is encoded next, as a rule, and need not be read again
            size = first[0].shape[:2]
            known = Photograph(
                name, key, size, lambda: first.pop() if first else read_image(path)
            )
            self._photographs[name] = known
        return known

    def _answer(self, record: Record, before: tuple, after: tuple) -> dict[str, Any]:
        masks, old = {}, {o.id: o.mask for o in before}
        for version in after:
            if (found := change(old.get(version.id), version.mask)) is not None:
                masks[version.id] = found
        later = record.labels[record.now + 1 :]
        return {
            "revision": record.revision, "finished": record.finished,
            "size": list(record.size), "objects": [o.described() for o in after], "masks": masks,
            "undo": record.labels[record.now], "redo": later[0] if later else "",
            "saved": self.project.save_error,
        }
