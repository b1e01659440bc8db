"""Engines: the same network, computed faster (see `accelerated`)."""

from fdrn_adapter.engines.accelerated import (
    ENGINES,
    LARGE_PX,
    VARIABLE,
    AcceleratedModel,
    EngineNotInstalledError,
    accelerate,
    available,
    beside,
    names,
    resolve,
    runner_of,
)
from fdrn_adapter.engines.cuda import NAME as CUDA

__all__ = [
    "CUDA",
    "ENGINES",
    "LARGE_PX",
    "VARIABLE",
    "AcceleratedModel",
    "EngineNotInstalledError",
    "accelerate",
    "available",
    "beside",
    "names",
    "resolve",
    "runner_of",
]
