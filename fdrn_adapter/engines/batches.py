"""Clicks of several sessions as one call of their network.

A GPU is little busier with eight crops than with one, and a call costs its launches once. So
sessions in several threads share a `Batches` and call their network through `Batched`. Calls that
fit together (same network, same size of crop; images, previous masks and numbers of clicks may
differ) wait while another one runs and are then run as one: the first of them leads, joins their
crops along the batch, and hands each its part of the outputs. All else of a click stays in the
thread it comes from.

Somebody alone never waits. Where others have begun a click and are on their way to the network,
the leader waits for them, for `wait_ms` at most. A batch that fails is no click's failure: each of
its calls is run alone then, and gets its own result or its own error.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from fdrn_adapter.engines.choice import CUDA

logger = logging.getLogger(__name__)

WAIT_MS = 2.0
# Sessions in a call where nobody says otherwise; 1 where batches were not worth their while.
MOST = {CUDA: 8}

Outputs = dict[str, Tensor]
Together = Callable[[Sequence[tuple]], Sequence[Outputs]]


def most_by_default(engine: str) -> int:
    """How many sessions are run in one call of an engine, unless somebody says."""
    return MOST.get(engine, 1)


@dataclass(eq=False)
class _Call:
    inputs: tuple
    followed: bool  # by another one of the same click
    answer: Outputs | None = None
    leads: bool = False
    expected: bool = False  # the one that follows is
    woken: threading.Event = field(default_factory=threading.Event)


class Batches:
    """Gathers calls of several threads; shared by all that may be run together.

    Args:
        most: sessions in one call.
        wait_ms: how long at most the first of a batch waits for others that are on their way.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(self, most: int, wait_ms: float = WAIT_MS):
        if most < 1 or wait_ms < 0:
            raise ValueError(
                f"A batch has 1 session or more and waits 0 ms or more, got {most} and {wait_ms}."
            )
        self.most, self.wait_ms = most, wait_ms
        self._waiting: dict[tuple, list[_Call]] = {}  # a key is there as long as somebody leads
        self._changed = threading.Condition()
        self._expected = 0
        self._here = threading.local()
        self._sizes: Counter[tuple[str, int]] = Counter()
        self._failed = 0

    # -- who is on the way ---------------------------------------------------------------------

    @contextmanager
    def coming(self) -> Iterator[None]:
        """Around a click of this thread: it will call the network soon, and others may wait."""
        self._here.inside = True
        self._expect(True)
        try:
            yield
        finally:
            self._here.inside = False
            self._expect(False)

    def _expect(self, expected: bool) -> None:
        if getattr(self._here, "expected", False) != expected:
            self._here.expected = expected
            with self._changed:
                self._expected += 1 if expected else -1
                self._changed.notify_all()

    # -- calls ---------------------------------------------------------------------------------

    def run(
        self, key: tuple, inputs: tuple, together: Together, alone: Callable[[], Outputs],
        followed: bool = False,
    ) -> Outputs:
        """The outputs of a call, run with others of its key or alone.

        Args:
            key: a name for the counts, and what else makes calls fit together.
            inputs: of the call.
            together: (inputs of several calls) -> the outputs of each.
            alone: runs this call.
            followed: whether another call belongs to the same click.
        """
        self._rehearse(key, inputs, together)
        call = _Call(inputs, followed and getattr(self._here, "inside", False))
        self._expect(False)
        self._join(key, call)
        try:
            if not call.leads:
                call.woken.wait()
            if call.leads:
                self._lead(key, call, together, alone)
        finally:
            self._leave(key, call)
            self._here.expected = call.expected
        return alone() if call.answer is None else call.answer

    def _join(self, key: tuple, call: _Call) -> None:
        with self._changed:
            call.leads = key not in self._waiting
            self._waiting.setdefault(key, []).append(call)
            self._changed.notify_all()

    def _lead(
        self, key: tuple, call: _Call, together: Together, alone: Callable[[], Outputs]
    ) -> None:
        """Run the calls that are there and give them their answers; none where that failed."""
        batch = self._gathered(key)
        if len(batch) == 1:
            self._answer(batch, [alone()])
            return
        try:
            self._answer(batch, together([one.inputs for one in batch]))
        except Exception:
            logger.warning("%d sessions failed together; each runs alone", len(batch),
                           exc_info=True)
            with self._changed:
                self._failed += 1
        finally:
            for one in batch[1:]:
                one.woken.set()

    def _answer(self, batch: list[_Call], answers: Sequence[Outputs]) -> None:
        """Give answers; what follows is expected from now on, however soon who waits wakes up."""
        with self._changed:
            for one, answer in zip(batch, answers, strict=True):
                one.answer, one.expected = answer, one.followed
                self._expected += one.followed

    def _gathered(self, key: tuple) -> list[_Call]:
        """The calls that a leader runs, its own first."""
        until = time.monotonic() + self.wait_ms / 1e3
        with self._changed:
            queue = self._waiting[key]
            while len(queue) < self.most and self._expected > 0:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            batch = queue[: self.most]
            del queue[: self.most]
            self._sizes[key[0], len(batch)] += 1
            return batch

    def _leave(self, key: tuple, call: _Call) -> None:
        """Neither wait nor lead any more, also after an error: who waits the longest leads then."""
        with self._changed:
            call.followed = False  # should it be answered after an interrupt
            queue = self._waiting.get(key, [])
            if call in queue:
                queue.remove(call)
            if not call.leads:
                return
            call.leads = False
            if queue:
                queue[0].leads = True
                queue[0].woken.set()
            else:
                del self._waiting[key]

    # -- before the first users ----------------------------------------------------------------

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Calls of this thread are run in batches of all sizes first: what there is to compile,
        is. From the size on that fails (for want of memory), batches are smaller."""
        self._here.rehearsed = set()
        try:
            yield
        finally:
            del self._here.rehearsed

    def _rehearse(self, key: tuple, inputs: tuple, together: Together) -> None:
        rehearsed = getattr(self._here, "rehearsed", None)
        if rehearsed is None or key in rehearsed:
            return
        rehearsed.add(key)
        for number in range(2, self.most + 1):
            try:
                for _ in range(2):  # graphs are captured when a size comes again
                    together([inputs] * number)
            except Exception:
                logger.warning("%d sessions cannot be run together", number, exc_info=True)
                self.most = number - 1
                return

    # -- counts --------------------------------------------------------------------------------

    @property
    def sizes(self) -> dict[tuple[str, int], int]:
        """(what was called, sessions in the call) -> number of such calls."""
        with self._changed:
            return dict(self._sizes)

    @property
    def failed(self) -> int:
        """Batches that failed, whose calls were run alone."""
        return self._failed
