"""Files written aside, in a thread of their own, so that nobody waits for a disk."""

import logging
import threading
from collections.abc import Callable

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
GATHER_SECONDS = 0.15  # first the page gets its answer, and steps that come at once are one file


class Autosave:
    """Writes what changed, the newest of each name, as soon as the disk is free.

    Args:
        idle: called when all is written, for what may come late.
    """

    def __init__(self, idle: Callable[[], None]):
        self._waiting: dict[str, Callable[[], None]] = {}
        self._idle, self._closing, self._busy = idle, False, False
        self._changed = threading.Condition()
        self.error = ""  # of the last attempt, "" when it went well
        self._thread = threading.Thread(target=self._run, name="fdrn-autosave", daemon=True)
        self._thread.start()

    def put(self, name: str, write: Callable[[], None]) -> None:
        """Have something written; what waits under the same name is replaced."""
        with self._changed:
            self._waiting[name] = write
            self._changed.notify_all()

    def waits(self, name: str) -> bool:
        """Whether something of that name is not on the disk yet."""
        with self._changed:
            return name in self._waiting

    def flush(self, seconds: float = 30.0) -> bool:
        """Wait until all is written. Returns whether it is."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._waiting and not self._busy, seconds
            )

    def close(self) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(30)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closing)
                self._changed.wait_for(lambda: self._closing, GATHER_SECONDS)
                if not self._waiting:
                    return
                work, self._busy = list(self._waiting.items()), True
            for name, write in work:
                if not self._write(name, write):
                    break
            else:
                self._write("", self._idle)

    def _write(self, name: str, write: Callable[[], None]) -> bool:
        try:
            write()
        except OSError as error:
            logger.error("The annotations were not saved: %s", error)
            self.error = f"The last steps are not saved: {error.strerror or error}."
            with self._changed:
                last_try = self._closing
                self._changed.wait_for(lambda: self._closing, RETRY_SECONDS)
                if last_try:
                    self._waiting.clear()
            return False
        self.error = ""
        with self._changed:
            if self._waiting.get(name) is write:
                del self._waiting[name]
        return True
