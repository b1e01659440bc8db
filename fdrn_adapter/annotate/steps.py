"""Steps on an object: clicks by the network, edits by hand, descriptions, undo and redo."""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from fdrn_adapter.annotate import edits
from fdrn_adapter.annotate.masks import PackedMask, change
from fdrn_adapter.annotate.pictures import Photograph
from fdrn_adapter.annotate.record import ObjectVersion, Record
from fdrn_adapter.serving.bridge import Answer, PromptSession
from fdrn_adapter.session import SessionClick

LONGEST_PAUSE_S = 60.0  # between two steps; who was away for longer did not work
LONGEST_TEXT = 200


class Steps:
    """What people do, done to the record of a photograph.

    Args:
        bridge: with the network.

    Attributes:
        actions: what `make` knows.
        network_s: that the network took for the last step.
    """

    def __init__(self, bridge: PromptSession):
        self._bridge, self.network_s = bridge, 0.0
        self._last: dict[str, float] = {}  # when a photograph was opened or worked on last
        self.actions: dict[str, Callable[[Photograph, Record, dict], ObjectVersion | None]] = {
            "click": self._click, "box": self._box, "brush": self._brush,
            "polygon": self._polygon, "describe": self._describe, "finish": self._finish,
            "delete": self._delete, "undo": self._undo, "redo": self._redo,
        }

    def opened(self, name: str) -> None:
        """From now on people spend time on a photograph."""
        self._last[name] = time.monotonic()

    def make(
        self, action: str, photograph: Photograph, record: Record, body: dict[str, Any]
    ) -> ObjectVersion | None:
        """Make a step.

        Args:
            action: one of `actions`.
            photograph, record: that it is made on.
            body: "object" for the number of one or null for a new one, and what the action needs.

        Returns:
            the object that it was made on, None where that is gone.

        Raises:
            ValueError: the step is not possible; nothing changed.
        """
        self.network_s = 0.0
        return self.actions[action](photograph, record, body)

    def peek(
        self, photograph: Photograph, record: Record, body: dict[str, Any]
    ) -> tuple[ObjectVersion, np.ndarray]:
        """An object, and the mask that a click would give it; nothing is remembered."""
        version, click = self._version(record, body), _click_of(body)
        mask = self._bridge.peek(
            click.x, click.y, click.positive, photograph.read, photograph.key,
            self._prompts(version, version.clicks),
        )
        return version, mask

    # -- steps ---------------------------------------------------------------------------------

    def _click(self, photograph: Photograph, record: Record, body: dict) -> ObjectVersion:
        version, click = self._version(record, body), _click_of(body)
        answer = self._ask(photograph, version, (*version.clicks, click))
        return self._put(
            photograph, record, version, "click", mask=PackedMask.of(answer.mask),
            clicks=answer.clicks, made=version.made + 1, done=False,
        )

    def _box(self, photograph: Photograph, record: Record, body: dict) -> ObjectVersion:
        version = self._version(record, body)
        try:
            corners = tuple(round(float(v)) for v in body["box"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError("A box is four numbers x1, y1, x2, y2.") from error
        version = replace(version, box=corners, start=None, clicks=())
        answer = self._ask(photograph, version, ())
        return self._put(
            photograph, record, version, "box", mask=PackedMask.of(answer.mask), box=corners,
            start=None, clicks=(), made=version.made + 1, done=False,
        )

    def _brush(self, photograph: Photograph, record: Record, body: dict) -> ObjectVersion | None:
        version, mask = self._version(record, body), None
        mask = edits.brushed(
            version.mask.array, body.get("points"), _number(body, "radius"),
            bool(body.get("erase")),
        )
        return self._edited(photograph, record, version, mask, "stroke")

    def _polygon(self, photograph: Photograph, record: Record, body: dict) -> ObjectVersion | None:
        version = self._version(record, body)
        before, after = body.get("before"), body.get("after")
        if not isinstance(before, list) or not isinstance(after, list):
            raise ValueError("A polygon needs the rings before and after.")
        mask = edits.reshaped(version.mask.array, before, after)
        return self._edited(photograph, record, version, mask, "outline")

    def _edited(
        self, photograph: Photograph, record: Record, version: ObjectVersion, mask: np.ndarray,
        label: str,
    ) -> ObjectVersion | None:
        packed = PackedMask.of(mask)
        if change(version.mask, packed) is None:
            return version if version in record.objects else None
        return self._put(
            photograph, record, version, label, mask=packed, start=packed, clicks=(), box=None,
            strokes=version.strokes + 1, done=False,
        )

    def _describe(self, photograph: Photograph, record: Record, body: dict) -> ObjectVersion:
        changes = {
            name: body[name].strip()[:LONGEST_TEXT]
            for name in ("name", "category", "colour") if isinstance(body.get(name), str)
        }
        version = self._version(record, body)
        colour = changes.get("colour", version.colour)
        if not (len(colour) == 7 and colour[0] == "#" and
                all(c in "0123456789abcdefABCDEF" for c in colour[1:])):
            raise ValueError(f"A colour is #rrggbb, got {colour!r:.20}.")
        if replace(version, **changes) == version:
            return version
        return self._put(photograph, record, version, "description", **changes)

    def _finish(self, photograph: Photograph, record: Record, body: dict) -> ObjectVersion:
        return self._put(photograph, record, self._existing(record, body), "finish", done=True)

    def _delete(self, photograph: Photograph, record: Record, body: dict) -> None:
        gone = self._existing(record, body)
        record.step((o for o in record.objects if o.id != gone.id), "delete")

    def _undo(self, photograph: Photograph, record: Record, body: dict) -> ObjectVersion | None:
        return self._go(record, -1)

    def _redo(self, photograph: Photograph, record: Record, body: dict) -> ObjectVersion | None:
        return self._go(record, 1)

    @staticmethod
    def _go(record: Record, by: int) -> ObjectVersion | None:
        before = set(map(id, record.objects))
        record.go(by)
        other = [o for o in record.objects if id(o) not in before]
        return other[-1] if other else None

    def _put(
        self, photograph: Photograph, record: Record, version: ObjectVersion, label: str,
        **changes: Any,
    ) -> ObjectVersion:
        now = time.monotonic()
        spent = min(now - self._last.get(photograph.name, now), LONGEST_PAUSE_S)
        self._last[photograph.name] = now
        version = replace(version, seconds=version.seconds + spent, **changes)
        record.put(version, label)
        return version

    # -- helpers -------------------------------------------------------------------------------

    def _version(self, record: Record, body: dict) -> ObjectVersion:
        number = body.get("object")
        if number is not None:
            return record.object(number)
        category = body.get("category")
        return record.started(category.strip()[:LONGEST_TEXT] if isinstance(category, str) else "")

    @staticmethod
    def _existing(record: Record, body: dict) -> ObjectVersion:
        return record.object(body.get("object"))

    def _ask(
        self, photograph: Photograph, version: ObjectVersion, clicks: tuple[SessionClick, ...]
    ) -> Answer:
        prompts = self._prompts(version, clicks)
        start = time.perf_counter()
        try:
            return self._bridge.predict(photograph.read, image_key=photograph.key, **prompts)
        finally:
            self.network_s += time.perf_counter() - start

    @staticmethod
    def _prompts(version: ObjectVersion, clicks: tuple[SessionClick, ...]) -> dict[str, Any]:
        prompts: dict[str, Any] = {
            "positive": [(c.x, c.y) for c in clicks if c.positive],
            "negative": [(c.x, c.y) for c in clicks if not c.positive], "previous": clicks,
        }
        if version.box is not None:
            prompts["box"] = version.box
        elif version.start is not None:
            prompts["mask"] = version.start.array
        return prompts


def _number(body: dict[str, Any], name: str) -> float:
    value = body.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name} should be a number, got {value!r:.60}.")
    if not math.isfinite(value):
        raise ValueError(f"{name} should be a finite number, got {value}.")
    return float(value)


def _click_of(body: dict[str, Any]) -> SessionClick:
    # Pixels of the page have their middle at a half.
    x, y = (math.floor(_number(body, name)) for name in ("x", "y"))
    return SessionClick(x, y, bool(body.get("positive", True)))
