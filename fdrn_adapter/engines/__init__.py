"""Engines: the same network, computed faster (see `accelerated`).

An engine of somebody else's is a subclass of `Engine` and `ENGINES.add(MyEngine())`, or an entry
point of the group "fdrn_adapter.engines".
"""

from fdrn_adapter import lazy

__getattr__, __dir__, __all__ = lazy.face(__name__, {
    "accelerated": ("AcceleratedModel", "accelerate", "runner_of"),
    "builtin": ("CUDA",),
    "choice": ("ENGINES", "LARGE_PX", "VARIABLE", "available", "beside", "names", "resolve"),
    "engine": ("Compiled", "Engine", "EngineNotInstalledError"),
})
