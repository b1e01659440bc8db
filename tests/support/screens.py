"""A screen without a monitor (Xvfb), and a mouse that the programs on it take for a real one."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

SIZE = (1200, 800)


@contextlib.contextmanager
def screen() -> Iterator[dict[str, str]]:
    """The environment of programs that show themselves there; a skip without Xvfb and xdotool."""
    for program in ("Xvfb", "xdotool"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    read, write = os.pipe()
    size = f"{SIZE[0]}x{SIZE[1]}x24"
    process = subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", size, "-nolisten", "tcp"],
        pass_fds=[write], stderr=subprocess.DEVNULL,
    )
    os.close(write)
    try:
        with os.fdopen(read) as said:
            number = said.readline().strip()
        yield {**os.environ, "DISPLAY": f":{number}", "QT_QPA_PLATFORM": "xcb",
               "LIBGL_ALWAYS_SOFTWARE": "1"}
    finally:
        process.terminate()
        process.wait(30)


def shown(script: str, arguments: Sequence[str], environment: dict[str, str]) -> str:
    """What a program says that is shown on a screen; it has to end by itself, and well."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environment, capture_output=True,
        text=True, timeout=1400,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
