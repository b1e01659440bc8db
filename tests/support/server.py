"""`fdrn serve` as a process of its own."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Served:
    """A running server."""

    url: str
    process: subprocess.Popen

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextlib.contextmanager
def serving(model: str | Path, *arguments: str, **environment: str) -> Iterator[Served]:
    """Start a server on a free port, and stop it as a service manager does, by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fdrn_adapter", "serve", "--model", str(model), "--port", "0",
         *arguments],
        stdout=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )
    try:
        line = process.stdout.readline()
        if " on http://" not in line:
            raise RuntimeError(f"the server did not start: {line!r}, {process.wait(30)}")
        yield Served(line.split(" on ")[1].strip(), process)
    finally:
        if process.poll() is None:
            process.terminate()
        process.stdout.close()
        process.wait(120)
