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
_work: Callable[[Any], Any] | None = None  # of this worker process


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
    pool = ProcessPoolExecutor(
        min(count, len(items)), get_context("spawn"), _begin, (work, os.getpid(), threads)
    )
    try:
        numbers = {pool.submit(_do, item): number for number, item in items.items()}
        for future in as_completed(numbers):
            yield numbers[future], future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _always_lost(left: dict[int, Any], count: int) -> str:
    first = ", ".join(str(item) for item in itertools.islice(left.values(), count))
    return (
        f"Worker processes were lost {TRIES} times in turn while they worked on {first}: killed, "
        "out of memory, or not able to start (then their error is above). Try fewer --jobs."
    )


def _begin(work: Callable[[Any], Any], parent: int, threads: int) -> None:
    global _work
    _work = work
    few_threads(threads)
    end_with(parent)
    signal.signal(signal.SIGINT, _interrupted)


def _interrupted(number: int, frame: Any) -> None:
    """Ctrl-C reaches all processes of a terminal; those that wait for an item leave in silence."""
    raise SystemExit(1)


def _do(item: Any) -> Any:
    try:
        return _work(item)
    except SystemExit as error:
        raise KeyboardInterrupt from error
