"""Which engines there are, which can run here, and which one is meant."""

import importlib.util
import logging
import os
from typing import Any

logger = logging.getLogger(__name__)

CUDA = "cuda"
# From the slowest to the fastest (README, Time); the last one is for GPUs.
ENGINES = ("eager", "torch", "onnxruntime", "openvino", CUDA)
ON_CPU = ENGINES[:-1]
# What each needs; `onnxruntime` and `openvino` are also the names of the extras.
PACKAGES = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
VARIABLE = "FDRN_ENGINE"


class EngineNotInstalledError(ValueError):
    """An engine's package is missing."""


def names() -> tuple[str, ...]:
    """All engines, from the slowest to the fastest.

    "eager" is the network as it is, bit for bit; "torch" an optimised copy of it in eager torch.
    """
    return ENGINES


def available() -> tuple[str, ...]:
    """The engines that can run here, from the slowest to the fastest; the last one needs a GPU."""
    from fdrn_adapter.engines import cuda  # here, so that names alone do not wait for torch

    return tuple(
        name for name in ENGINES
        if (name not in PACKAGES
            or all(importlib.util.find_spec(package) for package in ("onnx", PACKAGES[name])))
        and (name != CUDA or cuda.unavailable() is None)
    )


def resolve(engine: str, model: Any = None, device: str = "cpu") -> str:
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
    import torch  # as in `available`

    from fdrn_adapter.engines import cuda  # as in `available`

    parameter = next(model.parameters(), None) if model is not None else None
    device = torch.device(device).type if parameter is None else parameter.device.type
    if engine == "auto":
        fastest = [name for name in available() if name in ON_CPU][-1]
        engine = os.environ.get(VARIABLE) or (CUDA if device == "cuda" else fastest)
    if engine not in ENGINES:
        raise ValueError(f"Unknown engine {engine!r}; allowed: auto, {', '.join(ENGINES)}.")
    if engine in PACKAGES and engine not in available():
        raise EngineNotInstalledError(
            f"engine={engine!r} needs a package that is not installed: pip install "
            f"'fdrn_adapter[{engine}]'. Installed: {', '.join(available())}."
        )
    if engine == CUDA and (missing := cuda.unavailable()):
        raise EngineNotInstalledError(
            f"engine='cuda' needs an NVIDIA GPU: {missing}. Pass engine='auto' for the fastest "
            f"engine of this machine; it has {', '.join(available())}."
        )
    allowed = ("cpu", "cuda") if engine == CUDA else ("cpu",)
    if parameter is not None and (device not in allowed or parameter.dtype != torch.float32):
        if engine != "eager":
            logger.info("%s in %s runs in eager torch", parameter.device, parameter.dtype)
        return "eager"
    return engine
