"""The table of engines, and which of them is meant."""

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from fdrn_adapter.engines import cuda
from fdrn_adapter.engines.engine import Eager, Engine, EngineNotInstalledError
from fdrn_adapter.engines.in_onnxruntime import OnnxRuntime
from fdrn_adapter.engines.in_openvino import OpenVino
from fdrn_adapter.engines.in_torch import Torch
from fdrn_adapter.engines.torch_threads import one_torch_thread
from fdrn_adapter.table import Table

logger = logging.getLogger(__name__)

EAGER = Eager()
# From the slowest to the fastest (README, Time); the last one is for GPUs.
ENGINES: Table[Engine] = Table(
    "fdrn_adapter.engines", (EAGER, Torch(), OnnxRuntime(), OpenVino(), cuda.ROW)
)
VARIABLE = "FDRN_ENGINE"
LARGE_PX = 2 * 2**20


def names() -> tuple[str, ...]:
    """All engines, from the slowest to the fastest, then those of other packages.

    "eager" is the network as it is, bit for bit; "torch" an optimised copy of it in eager torch;
    "cuda" is for GPUs.
    """
    return tuple(ENGINES)


def available() -> tuple[str, ...]:
    """The engines that can run here, in the order of `names`."""
    return tuple(name for name, engine in ENGINES.items() if not engine.unavailable())


def resolve(engine: str, model: nn.Module | None = None, device: str = "cpu") -> str:
    """The engine that is meant: "auto" is the fastest that is installed for the model's device.

    The environment variable FDRN_ENGINE says what "auto" is where somebody wants another one.

    Models in another dtype than float32 run in "eager", and so do models on a device for which the
    engine is not made: "cuda" takes models on the CPU and on the GPU, the others on the CPU.

    Args:
        engine: a name, or "auto".
        model: that is to run in it.
        device: where the model will be, without a model.

    Raises:
        EngineNotInstalledError: its package, or for "cuda" the GPU, is missing; says what to do.
        ValueError: no such engine.
    """
    parameter = next(model.parameters(), None) if model is not None else None
    device = torch.device(device).type if parameter is None else parameter.device.type
    if engine == "auto":
        engine = os.environ.get(VARIABLE) or _fastest(device)
    if engine not in ENGINES:
        raise ValueError(f"Unknown engine {engine!r}; allowed: auto, {', '.join(names())}.")
    row = ENGINES[engine]
    missing = row.unavailable()
    if missing:
        raise EngineNotInstalledError(f"{missing} Available here: {', '.join(available())}.")
    if row is EAGER or parameter is None:
        return engine
    if device not in row.devices or parameter.dtype != torch.float32:
        logger.info("%s in %s runs in eager torch", parameter.device, parameter.dtype)
        return EAGER.name
    return engine


def _fastest(device: str) -> str:
    """The last row that "auto" may mean for models on a device of this type."""
    fitting = [
        name for name, row in ENGINES.items() if device in row.auto_on and not row.unavailable()
    ]
    return fitting[-1] if fitting else EAGER.name


def beside(net: Any, pixels: int = 0) -> AbstractContextManager:
    """For all that is done with torch around calls of a network, whatever it runs in.

    Engines with threads of their own want torch to use one (`torch_threads`).

    Args:
        net: a network, in an engine or not.
        pixels: that torch works on. From LARGE_PX on its threads save more than they cost.
    """
    engine = ENGINES.get(getattr(net, "engine", EAGER.name), EAGER)
    return one_torch_thread() if engine.own_threads and pixels < LARGE_PX else nullcontext()
