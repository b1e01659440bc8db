"""Memory that was freed, given back to the system."""

import ctypes
import functools
import threading
import time
from collections.abc import Callable

SECONDS = 5.0  # between two times; each takes milliseconds
_lock, _last = threading.Lock(), float("-inf")


def give_back() -> bool:
    """Let the C library return what it keeps of freed memory, at most every few seconds.

    glibc keeps freed blocks between others, and images of ever new sizes leave more and more of
    them: sixty images took 290 MB more without this. Returns whether it was done; elsewhere than on
    glibc it never is.
    """
    global _last
    trim = _trim()
    if trim is None or not _lock.acquire(blocking=False):
        return False
    try:
        if time.monotonic() - _last < SECONDS:
            return False
        trim(0)
        _last = time.monotonic()
        return True
    finally:
        _lock.release()


@functools.cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None
