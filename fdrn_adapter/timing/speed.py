"""Timing side by side: every candidate once a round, so that a busy moment hits all of them."""

import contextlib
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fdrn_adapter.timing import REPEATS

WARMUP = 2
# Between candidates: the threads of one's runtime (OpenMP's, ONNX Runtime's) wait for more work
# actively for some milliseconds, on the cores of the next one.
PAUSE_S = 0.02


@dataclass(frozen=True)
class Timing:
    """Wall-clock times of one candidate, milliseconds.

    Attributes:
        samples_ms: one for each round, in order.
    """

    samples_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        return float(np.median(self.samples_ms))

    @property
    def min_ms(self) -> float:
        return float(min(self.samples_ms))

    @property
    def p95_ms(self) -> float:
        return float(np.percentile(self.samples_ms, 95))

    def summary(self) -> dict[str, float | list[float]]:
        """Plain values, for JSON."""
        return {
            "median_ms": self.median_ms, "min_ms": self.min_ms, "p95_ms": self.p95_ms,
            "samples_ms": list(self.samples_ms),
        }


@dataclass(frozen=True)
class Machine:
    """Where something was measured."""

    cpu: str
    threads: int  # of torch, within one operation
    torch: str
    system: str
    gpu: str = ""  # where one has been used

    @classmethod
    def here(cls) -> "Machine":
        system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        gpu = torch.cuda.get_device_name() if gpu_in_use() else ""
        return cls(cpu_model(), torch.get_num_threads(), torch.__version__, system, gpu)

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        gpu = f"{self.gpu}, " if self.gpu else ""
        return f"{gpu}{self.cpu}, {threads}, torch {self.torch}, {self.system}"


@dataclass(frozen=True)
class Measurement:
    """Timings of several candidates from one interleaved run."""

    timings: dict[str, Timing]
    repeats: int
    warmup: int
    machine: Machine

    def __getitem__(self, name: str) -> Timing:
        return self.timings[name]


def measure(
    candidates: dict[str, Callable[[], object]],
    repeats: int = REPEATS,
    warmup: int = WARMUP,
    progress: Callable[[str], None] | None = None,
) -> Measurement:
    """Time callables in turns: one call of each, round after round.

    Args:
        candidates: name -> what to time; runs under `torch.inference_mode()`.
        repeats: timed rounds, at least 1.
        warmup: rounds before that are not timed.
        progress: called with the name after every call, also in warm-up rounds.

    Raises:
        ValueError: nothing to measure, or a number out of range.
    """
    if not candidates:
        raise ValueError("There is nothing to measure: pass at least one callable.")
    if repeats < 1 or warmup < 0:
        raise ValueError(
            f"repeats should be at least 1 and warmup at least 0, got {repeats} and {warmup}."
        )
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    with torch.inference_mode():
        for turn in range(-warmup, repeats):
            for name, run in candidates.items():
                time.sleep(PAUSE_S)
                start = time.perf_counter()
                run()
                wait_for_gpu()
                elapsed_ms = 1000 * (time.perf_counter() - start)
                if turn >= 0:
                    samples[name].append(elapsed_ms)
                if progress is not None:
                    progress(name)
    timings = {name: Timing(tuple(values)) for name, values in samples.items()}
    return Measurement(timings, repeats, warmup, Machine.here())


def others_at_work() -> str:
    """A warning where other programs kept the processors busy in the last minute, else empty."""
    if not hasattr(os, "getloadavg"):
        return ""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load <= 2 * cores:  # two runtimes of one thread a core each are our own
        return ""
    return (f"Other programs were at work (load {load:.1f} on {cores} processors): these times, "
            "and their ratios, say little. Measure again when nothing else runs.")


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call, and its wall-clock time in milliseconds, what a GPU does included."""
    wait_for_gpu()
    start = time.perf_counter()
    result = call()
    wait_for_gpu()
    return result, 1000 * (time.perf_counter() - start)


def gpu_in_use() -> bool:
    """Whether this process has done anything on a GPU."""
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def wait_for_gpu() -> None:
    """Return when the GPU has done what it was given; at once where none is in use."""
    if gpu_in_use():
        torch.cuda.synchronize()


def checked_device(name: str) -> str:
    """A device of torch that is there.

    Raises:
        ValueError: no such device, or none here.
    """
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise ValueError(f"--device {name}: {error}") from None
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"--device is cpu, cuda or cuda:N, got {name!r}.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"--device {name}: torch {torch.__version__} sees no CUDA GPU here. Leave it out, or "
            "pass cpu."
        )
    return name


def total_ms(encode_ms: float, click_ms: float, clicks: int) -> float:
    """Time of a whole interaction (eq. 6), milliseconds."""
    return encode_ms + click_ms * clicks


def average_ms(encode_ms: float, click_ms: float, clicks: int) -> float:
    """Time of one click on average (eq. 7), milliseconds."""
    return encode_ms / clicks + click_ms


@contextlib.contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Let torch use that many threads within one operation; None leaves it as it is.

    Raises:
        ValueError: less than one.
    """
    if number is not None and number < 1:
        raise ValueError(f"threads should be at least 1, got {number}.")
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cpu_model() -> str:
    """The processor's name, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown CPU"
