"""FDRN (Feature Decoupling-Recycling Network, MM 2023) variants of stock networks.

    import fdrn_adapter
    model = fdrn_adapter.wrap(ritm_model, b_low=3, b_high=3)
    features = model.encode_image(image)             # once per image
    with model.recycling(features, rois):            # every click, object and undo step
        logits = model(crops, points)["instances"]

Names are imported when they are first used, so that `fdrn --help` does not wait for torch.
"""

from fdrn_adapter import lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy.face(__name__, {
    "errors": ("CheckpointError", "FeatureMismatchError", "UnsupportedHostError"),
    "features": ("ImageFeatures",),
    "model": ("FDRNModel",),
    "model.checkpoint": ("load", "save"),
    "model.embeddings": ("features_from_embedding",),
    "model.inference": ("Inference",),
    "model.wrapping": ("unwrap", "wrap"),
    "session": ("InteractiveSession",),
}, modules=("codebase", "zoo"))
