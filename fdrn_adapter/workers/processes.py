"""Items worked on in several processes of this machine."""

import itertools
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from fdrn_adapter.workers.limits import end_with, few_threads

logger = logging.getLogger(__name__)

T = TypeVar("T")
TRIES = 4  # in turn, without any item done in between

# Of this worker process.
_work: Callable[[Any], Any] | None = None
_stop: Any = None  # an event, for all workers of a pool
_was_interrupted = False


def each(
    work: Callable[[Any], T], items: Sequence[Any], count: int, threads: int
) -> Iterator[tuple[int, T]]:
    """See `Workers.each`.

    A process that is lost takes its pool with it; a new pool does what is left.
    """
    left, lost = dict(enumerate(items)), 0
    while left:
        before = len(left)
        try:
            for number, result in _in_one_pool(work, left, count, threads):
                del left[number]
                yield number, result
        except BrokenProcessPool as error:
            lost = 1 + lost * (len(left) == before)
            if lost == TRIES:
                raise RuntimeError(_always_lost(left, count)) from error
            logger.warning("A worker process was lost; what it had begun is done again.")


def _in_one_pool(
    work: Callable[[Any], T], items: dict[int, Any], count: int, threads: int
) -> Iterator[tuple[int, T]]:
    context = get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(
        min(count, len(items)), context, _begin, (work, os.getpid(), threads, stop)
    )
    try:
        numbers = {pool.submit(_do, item): number for number, item in items.items()}
        for future in as_completed(numbers):
            yield numbers[future], future.result()
    finally:
        stop.set()  # the pool has handed out more than it is at, which cannot be cancelled
        pool.shutdown(wait=True, cancel_futures=True)


def _always_lost(left: dict[int, Any], count: int) -> str:
    first = ", ".join(str(item) for item in itertools.islice(left.values(), count))
    return (
        f"Worker processes were lost {TRIES} times in turn while they worked on {first}: killed, "
        "out of memory, or not able to start (then their error is above). Try fewer --jobs."
    )


def _begin(work: Callable[[Any], Any], parent: int, threads: int, stop: Any) -> None:
    global _work, _stop
    _work, _stop = work, stop
    few_threads(threads)
    end_with(parent)
    signal.signal(signal.SIGINT, _interrupted)


def _interrupted(number: int, frame: Any) -> None:
    """Ctrl-C reaches all processes of a terminal; those that wait for an item leave in silence."""
    global _was_interrupted
    _was_interrupted = True
    raise SystemExit(1)


def _do(item: Any) -> Any:
    if _was_interrupted or _stop.is_set():
        raise KeyboardInterrupt
    try:
        return _work(item)
    except SystemExit as error:
        raise KeyboardInterrupt from error
