"""FDRN (Feature Decoupling-Recycling Network, MM 2023) variants of stock RITM networks.

    import fdrn_adapter
    model = fdrn_adapter.wrap(ritm_model, b_low=3, b_high=3)
    features = model.encode_image(image)             # once per image
    with model.recycling(features, rois):            # every click, object and undo step
        logits = model(crops, points)["instances"]
"""

from fdrn_adapter.checkpoint import load, save
from fdrn_adapter.errors import CheckpointError, FeatureMismatchError, UnsupportedHostError
from fdrn_adapter.features import ImageFeatures
from fdrn_adapter.model import FDRNModel
from fdrn_adapter.session import InteractiveSession
from fdrn_adapter.wrap import unwrap, wrap

__version__ = "0.1.0"
__all__ = [
    "CheckpointError",
    "FDRNModel",
    "FeatureMismatchError",
    "ImageFeatures",
    "InteractiveSession",
    "UnsupportedHostError",
    "load",
    "save",
    "unwrap",
    "wrap",
]
