"""Several processes of one thread: over images, and over the parts of a batch."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import cv2
import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")
_work: Callable[[Any], Any] | None = None  # of this worker process


def in_processes(
    work: Callable[[Any], T], items: Sequence[Any], processes: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[T]:
    """work(item) of each item, in their order.

    Args:
        work: is copied into each process.
        processes: of one thread each; with 1, or one item, all is done in this one.
        progress: called with the number of items that are done.
    """
    if processes <= 1 or len(items) <= 1:
        for done, item in enumerate(items, 1):
            result = work(item)
            progress(done)
            yield result
        return
    pool = ProcessPoolExecutor(
        min(processes, len(items)), get_context("spawn"), _begin, (work, os.getpid())
    )
    try:
        for done, result in enumerate(pool.map(_do, items, chunksize=1), 1):
            progress(done)
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(work: Callable[[Any], Any], parent: int) -> None:
    global _work
    _work = work
    one_thread()
    end_with(parent)


def _do(item: Any) -> Any:
    return _work(item)


def one_thread() -> None:
    """Keep torch and OpenCV in this process to one thread."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def end_with(parent: int) -> None:
    """End this process when its parent is gone, be it by kill -9; works in the background."""
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def world() -> tuple[int, int]:
    """The number of this process among those that train together, and how many they are."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


@torch.no_grad()
def agree(net: nn.Module, values: Tensor) -> Tensor:
    """Give all processes the mean of their gradients and of their batch-norm statistics.

    So their networks stay equal, to the bit, after every step. Works in place on the network.

    Args:
        values: (N,) further numbers.

    Returns:
        their means.
    """
    count = world()[1]
    if count == 1:
        return values
    shared = [p.grad for p in net.parameters() if p.grad is not None]
    shared += [b for b in net.buffers() if b.is_floating_point()]
    values = values.clone().float()
    flat = torch.cat([t.flatten().float() for t in [*shared, values]])
    distributed.all_reduce(flat)
    flat /= count
    for tensor, mean in zip(
        [*shared, values], flat.split([t.numel() for t in [*shared, values]]), strict=True
    ):
        tensor.copy_(mean.view_as(tensor))
    return values


@torch.no_grad()
def start_equal(net: nn.Module) -> None:
    """Give all processes the first one's weights and buffers."""
    if world()[1] > 1:
        for tensor in [*net.parameters(), *net.buffers()]:
            distributed.broadcast(tensor.data, 0)
