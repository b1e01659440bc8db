"""Modules on a GPU, captured once and replayed, and tensors on their way there and back."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from fdrn_adapter.engines.click_maps import with_rows
from fdrn_adapter.engines.engine import EXACT, FAST

logger = logging.getLogger(__name__)

CHANNELS_LAST = {EXACT: True, FAST: True}
# Captured sizes of a kind: batches of 1, 2, 4, 8 with two numbers of clicks, say. Further ones run
# kernel by kernel.
MAX_GRAPHS = 8
WARMUP = 3  # runs before a capture
POINTS = 16  # clicks of each sign that a graph has room for; doubled where there are more


class Replayed:
    """A module on the device, captured once for each set of input shapes, then replayed.

    Where a size cannot be captured (or the device is no GPU) it runs kernel by kernel. May be
    called from several threads.

    Args:
        module: takes and returns tensors; None among the inputs stands for itself.
        device: of the module.
        precision: "exact" or "fast", see `CHANNELS_LAST`.
        after: how many calls of a size come before it is captured.
    """

    def __init__(self, module: nn.Module, device: torch.device, precision: str, after: int = 1):
        self.channels_last = CHANNELS_LAST[precision]
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)
        self.module, self.device, self.precision, self.after = module, device, precision, after
        self.captured: dict[tuple, Captured | None] = {}
        self._seen: dict[tuple, int] = {}
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        """The outputs, on the device; nothing waits for them."""
        with self._lock, torch.inference_mode():
            key = tuple(None if t is None else (tuple(t.shape), t.dtype) for t in inputs)
            graph = self._graph(key, inputs)
            if graph is not None:
                return graph(*inputs)
            return self._plain([self._placed(t) for t in inputs])

    def _plain(self, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        with float32_arithmetic(self.precision):
            return tuple(self.module(*inputs))

    def _placed(self, t: Tensor | None) -> Tensor | None:
        t = on_device(t, self.device)
        if t is not None and t.ndim == 4 and self.channels_last:
            return t.contiguous(memory_format=torch.channels_last)
        return t

    def _graph(self, key: tuple, inputs: Sequence[Tensor | None]) -> "Captured | None":
        if self.device.type != "cuda":
            return None
        if key not in self.captured:
            self._seen[key] = self._seen.get(key, 0) + 1
            if self._seen[key] <= self.after or len(self.captured) >= MAX_GRAPHS:
                return None
            placed = [self._placed(t) for t in inputs]
            try:
                self.captured[key] = Captured(self._plain, placed, self.device)
            except RuntimeError as error:
                logger.warning("No CUDA graph, kernels are launched one by one: %s", error)
                self.captured[key] = None
                torch.cuda.synchronize(self.device)
        return self.captured[key]


class Captured:
    """A function of tensors as a CUDA graph with inputs of fixed shapes.

    Args:
        function: tensors in, a tuple of tensors out, without host synchronisation.
        inputs: on the device; None stands for itself.

    Raises:
        RuntimeError: it cannot be captured.
    """

    def __init__(self, function: Callable, inputs: Sequence[Tensor | None], device: torch.device):
        self.inputs = [None if t is None else t.clone() for t in inputs]
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARMUP):  # libraries choose kernels and workspaces
                function(self.inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.outputs = function(self.inputs)

    def __call__(self, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        for own, given in zip(self.inputs, inputs, strict=True):
            if own is not None:
                own.copy_(_locked(given), non_blocking=True)
        self.graph.replay()
        return tuple(t.clone() for t in self.outputs)  # the next replay writes into them


def _locked(t: Tensor) -> Tensor:
    """A tensor of the CPU in page-locked memory, from where copies wait for nothing."""
    return t.pin_memory() if t.device.type == "cpu" else t


def on_device(t: Tensor | None, device: torch.device) -> Tensor | None:
    """A tensor on a device, without waiting for it."""
    if t is None or t.device.type == device.type:
        return t
    return (_locked(t) if device.type == "cuda" else t).to(device, non_blocking=True)


def to_host(t: Tensor) -> Tensor:
    """A tensor on the CPU: the one wait of a click."""
    if t.device.type == "cpu":
        return t
    with torch.inference_mode():
        host = torch.empty(t.shape, dtype=t.dtype, pin_memory=True)
        host.copy_(t, non_blocking=True)
    torch.cuda.current_stream(t.device).synchronize()
    return host


def with_room(points: Tensor) -> Tensor:
    """Points (B, 2N, 3) padded to one of few numbers of rows, so that graphs serve many clicks."""
    number = points.shape[1] // 2
    room = POINTS
    while room < number:
        room *= 2
    return with_rows(points.float(), room)


def to_power_of_two(t: Tensor) -> Tensor:
    """A batch padded by its last sample to 1, 2, 4, 8, ... samples, so that few graphs serve."""
    missing = (1 << (len(t) - 1).bit_length()) - len(t)
    return torch.cat([t, t[-1:].expand(missing, *t.shape[1:])]) if missing else t


@contextlib.contextmanager
def float32_arithmetic(precision: str) -> Iterator[None]:
    """No TF32 where float32 is meant: it keeps 10 of 23 bits."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    if precision == EXACT:
        cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


