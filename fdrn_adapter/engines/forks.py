"""Forked processes, which have none of the threads that their parent computed with.

What waits for such threads waits for ever. So a child is told, by an error, before it computes.
"""

import os
from dataclasses import dataclass

import torch


@dataclass
class _Threads:
    """Attributes:
        used: torch has computed on several here.
        lost: it had in the process that this one was forked from.
    """

    used: bool = False
    lost: bool = False


_threads = _Threads()


def about_to_use_threads() -> None:
    """For whatever lets torch compute on its threads, each time before it does.

    Raises:
        RuntimeError: this process was forked from one that had computed on several threads.
    """
    if torch.get_num_threads() == 1:
        return
    if _threads.lost:
        raise RuntimeError(
            "This process was forked from one that had computed, on threads that are not here: "
            "torch would wait for them for ever. Load the network in each worker (gunicorn's "
            "post_fork, without --preload), start workers by spawn, or call "
            "torch.set_num_threads(1) in this process."
        )
    _threads.used = True


def _in_child() -> None:
    _threads.used, _threads.lost = False, _threads.used or _threads.lost


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_in_child)
