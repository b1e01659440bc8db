"""Ctrl-C as a wish to stop after the step that runs."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def asked_by_ctrl_c(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed since; a second one interrupts at once, as usual."""
    asked: list[bool] = []

    def handle(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(True)
        say("stopping after this step; Ctrl-C once more stops at once")

    try:
        before = signal.signal(signal.SIGINT, handle)
    except ValueError:  # not the main thread, which alone gets signals
        yield lambda: False
        return
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
