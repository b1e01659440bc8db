"""Work in several threads at once."""

import threading
from collections.abc import Callable
from typing import Any


def beside_each_other(*work: Callable[[], Any], seconds: float = 300) -> list[Any]:
    """What each gives, in a thread of its own; its error where it ends in one."""
    results: list[Any] = [None] * len(work)

    def run(i: int) -> None:
        try:
            results[i] = work[i]()
        except Exception as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    assert not any(thread.is_alive() for thread in threads), "a thread waits for ever"
    return results
