"""Engines: the same network, computed faster (see `accelerated`)."""

from fdrn_adapter import lazy

__getattr__, __dir__, __all__ = lazy.face(__name__, {
    "accelerated": ("LARGE_PX", "AcceleratedModel", "accelerate", "beside", "runner_of"),
    "choice": (
        "CUDA", "ENGINES", "VARIABLE", "EngineNotInstalledError", "available", "names", "resolve",
    ),
})
