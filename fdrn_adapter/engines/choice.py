"""The table of engines, and which of them is meant. No torch is imported for their names alone."""

import logging
import os
from typing import Any

from fdrn_adapter.engines.engine import Engine, EngineNotInstalledError
from fdrn_adapter.table import Table

logger = logging.getLogger(__name__)

CUDA = "cuda"
EAGER = Engine("eager")  # the network as it is, wherever it is and in whatever dtype
_HERE = "fdrn_adapter.engines"
# From the slowest to the fastest (README, Time); the last one is for GPUs.
ENGINES: Table[Engine] = Table("fdrn_adapter.engines", (
    EAGER,
    Engine("torch", f"{_HERE}.in_torch:compile_graph", auto_on=("cpu",),
           lower=f"{_HERE}.in_torch:lower_precision",
           compile_lower=f"{_HERE}.in_torch:compile_lower"),
    Engine("onnxruntime", f"{_HERE}.in_onnxruntime:compile_graph", ("onnx", "onnxruntime"),
           "onnxruntime", auto_on=("cpu",), own_threads=True),
    Engine("openvino", f"{_HERE}.in_openvino:compile_graph", ("onnx", "openvino"), "openvino",
           auto_on=("cpu",), own_threads=True,
           lower=f"{_HERE}.in_openvino:lower_precision",
           compile_lower=f"{_HERE}.in_openvino:compile_lower"),
    Engine(CUDA, devices=("cpu", "cuda"), auto_on=("cuda",), moves_features=True,
           runner=f"{_HERE}.cuda:CudaRunner", missing=f"{_HERE}.cuda:missing"),
))
VARIABLE = "FDRN_ENGINE"


def names() -> tuple[str, ...]:
    """All engines, from the slowest to the fastest, then those of other packages.

    "eager" is the network as it is, bit for bit; "torch" an optimised copy of it in eager torch;
    "cuda" is for GPUs.
    """
    return tuple(ENGINES)


def available() -> tuple[str, ...]:
    """The engines that can run here, in the order of `names`."""
    return tuple(name for name, engine in ENGINES.items() if not engine.unavailable())


def resolve(engine: str, model: Any = None, device: str = "cpu") -> str:
    """The engine that is meant: "auto" is the fastest that is installed for the model's device.

    The environment variable FDRN_ENGINE says what "auto" is where somebody wants another one.

    Models in another dtype than float32 run in "eager", and so do models on a device for which the
    engine is not made: "cuda" takes models on the CPU and on the GPU, the others on the CPU. "auto"
    is "eager" for networks of a structure that engines do not know.

    Args:
        engine: a name, or "auto".
        model: that is to run in it.
        device: where the model will be, without a model.

    Raises:
        EngineNotInstalledError: its package, or for "cuda" the GPU, is missing; says what to do.
        ValueError: no such engine.
    """
    import torch  # here, so that names alone do not wait for it

    from fdrn_adapter.engines import graphs  # as torch

    parameter = next(model.parameters(), None) if model is not None else None
    device = torch.device(device).type if parameter is None else parameter.device.type
    automatic = engine == "auto"
    if automatic:
        engine = os.environ.get(VARIABLE) or _fastest(device)
    if engine not in ENGINES:
        raise ValueError(f"Unknown engine {engine!r}; allowed: auto, {', '.join(names())}.")
    row = ENGINES[engine]
    missing = row.unavailable()
    if missing:
        raise EngineNotInstalledError(f"{missing} This machine has {', '.join(available())}.")
    if row is EAGER or parameter is None:
        return engine
    if device not in row.devices or parameter.dtype != torch.float32:
        logger.info("%s in %s runs in eager torch", parameter.device, parameter.dtype)
        return EAGER.name
    problem = graphs.misfit(model) if automatic else ""
    if problem:
        logger.info("%s", problem)
        return EAGER.name
    return engine


def _fastest(device: str) -> str:
    """The last row that "auto" may mean for models on a device of this type."""
    fitting = [
        name for name, row in ENGINES.items() if device in row.auto_on and not row.unavailable()
    ]
    return fitting[-1] if fitting else EAGER.name
