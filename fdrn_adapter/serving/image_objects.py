"""What the bridge remembers of one image: its objects with their clicks, and sessions to work in.

Each object has a lock. Requests on different objects of an image run beside each other, each in a
session of its own that shares image and features with the others.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from fdrn_adapter.serving.prompts import Start, merged
from fdrn_adapter.session.interactive import InteractiveSession, SessionClick
from fdrn_adapter.session.objects import SessionObject, steps_nbytes


class KnownObject:
    """An object that was asked for.

    Attributes:
        start: what it starts from.
        clicks: that it has, or will have when the requests that wait for its lock are through.
        steps: what was made of it, None before the first request has begun. Steps are never
            dropped: a request that leaves an object's clicks in the middle gets a copy.
        lock: to be held by who works on it.
    """

    def __init__(self, start: Start, clicks: Sequence[SessionClick]):
        self.start, self.clicks = start, tuple(clicks)
        self.steps: SessionObject | None = None
        self.lock = threading.Lock()

    @property
    def made(self) -> tuple[SessionClick, ...]:
        """Those of its clicks that are made."""
        return () if self.steps is None else self.steps.history[-1].clicks[self.start.clicks :]


@dataclass(frozen=True)
class Plan:
    """How a request will be answered.

    Attributes:
        clicks: all of the request, in their order.
        known: the object that has them, or will.
        is_new: whether it was made for the request, which then holds its lock.
        source: the object whose first `kept` clicks a new one begins with, if there is one.
        kept: see source.
    """

    clicks: tuple[SessionClick, ...]
    known: KnownObject
    is_new: bool = False
    source: KnownObject | None = None
    kept: int = 0


class ImageObjects:
    """An image that is open, with its objects.

    Attributes:
        key: names the image.
        lock: to be held by who opens it.
        size: rows and columns; None until `opened`.
        nbytes: what image and objects took after the last request.
    """

    def __init__(self, key: str):
        self.key, self.nbytes = key, 0
        self.size: tuple[int, int] | None = None
        self.lock, self._books = threading.Lock(), threading.Lock()
        self._base: InteractiveSession | None = None  # others begin beside it; nothing waits for it
        self._blank = SessionObject("object")  # what objects begin as; its state is kept once
        self._idle: list[InteractiveSession] = []
        self._objects: OrderedDict[int, KnownObject] = OrderedDict()  # in the order of use

    def opened(self, session: InteractiveSession) -> None:
        """Take a session in which the image is set."""
        session.work_on(self._blank)
        self._base = session
        self.size = session.image.shape[:2]

    def answer(
        self, start: Start, positive: Sequence[SessionClick], negative: Sequence[SessionClick],
        previous: Sequence[SessionClick] | None, peeked: tuple | None = None,
    ) -> tuple[np.ndarray, float, tuple[SessionClick, ...], int]:
        """What a request asks for, with as few new clicks as possible.

        Args:
            start: of the object.
            positive, negative: its clicks, each list in its order.
            previous: see `PromptSession.predict`.
            peeked: a further click, which is not remembered; the mask is with it.

        Returns:
            mask, score, the clicks in their order, and how many of them had to be made.
        """
        plan = self._planned(start, positive, negative, previous)
        with self._held(plan), self._session() as session:
            computed = self._make(session, plan)
            score = session.score
            mask = session.mask if peeked is None else session.peek(*peeked)
        return mask, score, plan.clicks, computed

    def shrink(self, max_bytes: int) -> None:
        """Forget the objects that were not asked for the longest, but not the last one."""
        with self._books:
            for name in list(self._objects)[:-1]:
                if self._counted() <= max_bytes:
                    break
                if not self._objects[name].lock.locked():
                    del self._objects[name]
            self.nbytes = self._counted()

    def _counted(self) -> int:
        if self._base is None:
            return 0
        steps = [known.steps for known in self._objects.values() if known.steps is not None]
        return self._base.image_nbytes + steps_nbytes(steps)

    # -- a request -------------------------------------------------------------------------------

    def _planned(
        self, start: Start, positive: Sequence[SessionClick], negative: Sequence[SessionClick],
        previous: Sequence[SessionClick] | None,
    ) -> Plan:
        wanted = None if previous is None else merged(previous, positive, negative)[1]
        with self._books:
            found, kept, clicks = self._closest(start, positive, negative, wanted)
            clicks = tuple(clicks)
            if found is not None and kept in (len(clicks), len(found.clicks)):
                found.clicks = max(found.clicks, clicks, key=len)
                self._objects.move_to_end(id(found))
                return Plan(clicks, found)
            new = KnownObject(start, clicks)
            new.lock.acquire()
            self._objects[id(new)] = new
            return Plan(clicks, new, True, found, kept)

    def _closest(
        self, start: Start, positive: Sequence, negative: Sequence, wanted: Sequence | None
    ) -> tuple[KnownObject | None, int, Sequence[SessionClick]]:
        """The object with the longest beginning in common, its length, and all clicks in order.

        None where there is nothing in common, so that unlike objects do not wait for each other.
        """
        best = (None, 0, merged((), positive, negative)[1] if wanted is None else wanted)
        for known in reversed(self._objects.values()):
            if known.start != start:
                continue
            if wanted is None:
                kept, clicks = merged(known.clicks, positive, negative)
            else:
                kept, clicks = _common(known.clicks, wanted), wanted
            worth = kept or start.clicks or not known.clicks
            if worth and (best[0] is None or kept > best[1]):
                best = (known, kept, clicks)
        return best

    @contextmanager
    def _held(self, plan: Plan) -> Iterator[None]:
        """The lock of its object; if clicks cannot be made, those that were made stay known."""
        known = plan.known
        if not plan.is_new:
            known.lock.acquire()
        try:
            yield
        except BaseException:
            with self._books:
                known.clicks = known.made
                if known.steps is None:
                    self._objects.pop(id(known), None)
            raise
        else:
            with self._books:  # others, who waited, may have failed
                known.clicks = max(known.clicks, known.made, key=len)
        finally:
            known.lock.release()

    @contextmanager
    def _session(self) -> Iterator[InteractiveSession]:
        with self._books:
            session = self._idle.pop() if self._idle else None
        session = self._base.beside() if session is None else session
        try:
            yield session
        finally:
            with self._books:
                self._idle.append(session)


    def _make(self, session: InteractiveSession, plan: Plan) -> int:
        """Bring the session to a plan's clicks; how many of them had to be made."""
        known = plan.known
        if known.steps is None:
            known.steps = self._begun(session, plan)
        session.work_on(known.steps)
        kept = min(len(known.made), len(plan.clicks))
        session.keep_clicks(known.start.clicks + kept)
        session.add_clicks((c.x, c.y, c.positive) for c in plan.clicks[kept:])
        return len(plan.clicks) - kept

    def _begun(self, session: InteractiveSession, plan: Plan) -> SessionObject:
        if plan.source is not None:
            with plan.source.lock:
                if plan.source.steps is not None:
                    kept = min(plan.kept, len(plan.source.made))
                    return plan.source.steps.first(plan.known.start.clicks + kept)
        new = self._blank.first(0)
        session.work_on(new)
        plan.known.start.begin(session)
        return new


def _common(a: Sequence, b: Sequence) -> int:
    number = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        number += 1
    return number
