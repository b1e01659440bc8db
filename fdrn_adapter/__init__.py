"""FDRN (Feature Decoupling-Recycling Network, MM 2023) variants of stock networks.

    import fdrn_adapter
    model = fdrn_adapter.wrap(ritm_model, b_low=3, b_high=3)
    features = model.encode_image(image)             # once per image
    with model.recycling(features, rois):            # every click, object and undo step
        logits = model(crops, points)["instances"]

Names are imported when they are first used, so that `fdrn --help` does not wait for torch.
"""

from typing import TYPE_CHECKING

from fdrn_adapter import lazy

if TYPE_CHECKING:  # the same names for type checkers and editors; a test compares
    from fdrn_adapter import codebase as codebase
    from fdrn_adapter import zoo as zoo
    from fdrn_adapter.errors import CheckpointError as CheckpointError
    from fdrn_adapter.errors import FeatureMismatchError as FeatureMismatchError
    from fdrn_adapter.errors import UnsupportedHostError as UnsupportedHostError
    from fdrn_adapter.features import ImageFeatures as ImageFeatures
    from fdrn_adapter.model import FDRNModel as FDRNModel
    from fdrn_adapter.model.checkpoint import load as load
    from fdrn_adapter.model.checkpoint import save as save
    from fdrn_adapter.model.embeddings import features_from_embedding as features_from_embedding
    from fdrn_adapter.model.inference import Inference as Inference
    from fdrn_adapter.model.pretrained_folder import from_pretrained as from_pretrained
    from fdrn_adapter.model.pretrained_folder import save_pretrained as save_pretrained
    from fdrn_adapter.model.wrapping import unwrap as unwrap
    from fdrn_adapter.model.wrapping import wrap as wrap
    from fdrn_adapter.session import InteractiveSession as InteractiveSession

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy.face(__name__, {
    "errors": ("CheckpointError", "FeatureMismatchError", "UnsupportedHostError"),
    "features": ("ImageFeatures",),
    "model": ("FDRNModel",),
    "model.checkpoint": ("load", "save"),
    "model.embeddings": ("features_from_embedding",),
    "model.inference": ("Inference",),
    "model.pretrained_folder": ("from_pretrained", "save_pretrained"),
    "model.wrapping": ("unwrap", "wrap"),
    "session": ("InteractiveSession",),
}, modules=("codebase", "zoo"))
