"""FDRN (Feature Decoupling-Recycling Network, MM 2023) variants of stock networks.

    import fdrn_adapter
    model = fdrn_adapter.wrap(ritm_model, b_low=3, b_high=3)
    features = model.encode_image(image)             # once per image
    with model.recycling(features, rois):            # every click, object and undo step
        logits = model(crops, points)["instances"]

Names are imported when they are first used, so that `fdrn --help` does not wait for torch.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "CheckpointError": "errors",
    "FDRNModel": "model",
    "FeatureMismatchError": "errors",
    "ImageFeatures": "features",
    "Inference": "model.inference",
    "InteractiveSession": "session",
    "UnsupportedHostError": "errors",
    "features_from_embedding": "model.embeddings",
    "load": "model.checkpoint",
    "save": "model.checkpoint",
    "unwrap": "model.wrapping",
    "wrap": "model.wrapping",
}
_SUBMODULES = ("codebase", "zoo")
__all__ = sorted([*_HOME, *_SUBMODULES])


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"fdrn_adapter.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _SUBMODULES:
        return importlib.import_module(f"fdrn_adapter.{name}")
    raise AttributeError(f"module 'fdrn_adapter' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
