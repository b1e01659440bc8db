"""Torch on one thread beside an engine that has threads of its own.

After every parallel operation of torch, OpenMP's threads wait for the next one actively, for
milliseconds. An engine that starts meanwhile finds the cores taken: on two cores that made a click
of FocalClick's smallest FDRN a third slower. What surrounds an engine is small, and one thread is
enough for it.

`torch.set_num_threads` is not used: it also counts for threads that start meanwhile, and stays with
them. The runtimes' own settings hold for the calling thread only.
"""

import contextlib
import ctypes
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

_here = threading.local()


def number() -> int:
    """Threads that the caller wants computations to have; `one_torch_thread` does not change it."""
    return getattr(_here, "number", None) or torch.get_num_threads()


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch's operations in this thread run on this thread alone, while the context lasts.

    Does nothing where the runtime under torch cannot be told so (not on Linux, other builds).
    """
    before = torch.get_num_threads()
    setters = _setters() if before > 1 else None
    if setters is None:
        yield
        return
    set_openmp, set_mkl = setters
    outer, _here.number = getattr(_here, "number", None), number()
    set_openmp(1)
    mkl_before = set_mkl(1)
    try:
        yield
    finally:
        set_openmp(before)
        set_mkl(mkl_before)
        _here.number = outer


@functools.cache
def _setters() -> tuple[Callable[[int], object], Callable[[int], int]] | None:
    """Functions that set the calling thread's number of threads of OpenMP and of MKL."""
    before = torch.get_num_threads()  # torch gives a thread its number when it first asks
    try:
        set_openmp = ctypes.CDLL(None).omp_set_num_threads
    except (OSError, TypeError, AttributeError) as error:
        logger.debug("OpenMP cannot be told to use one thread: %s", error)
        return None
    set_openmp(1)
    heard = torch.get_num_threads() == 1
    set_openmp(before)
    if not heard:
        logger.debug("torch computes with another OpenMP than this process offers")
        return None
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    try:
        return set_openmp, ctypes.CDLL(str(library)).MKL_Set_Num_Threads_Local
    except (OSError, AttributeError) as error:
        logger.debug("torch comes without MKL: %s", error)
        return set_openmp, lambda count: 0
