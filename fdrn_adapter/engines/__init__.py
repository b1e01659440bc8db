"""Engines: the same network, computed faster (see `accelerated`).

An engine of somebody else's is a row that is added, `ENGINES.add(Engine("mine", compile_graph))`,
or announced as an entry point of the group "fdrn_adapter.engines".
"""

from fdrn_adapter import lazy

__getattr__, __dir__, __all__ = lazy.face(__name__, {
    "accelerated": ("LARGE_PX", "AcceleratedModel", "accelerate", "beside", "runner_of"),
    "batched": ("Batched",),
    "batches": ("Batches", "most_by_default"),
    "choice": ("CUDA", "ENGINES", "VARIABLE", "available", "names", "resolve"),
    "engine": ("Compiled", "Engine", "EngineNotInstalledError"),
})
