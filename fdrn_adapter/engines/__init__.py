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

__all__ = [
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
