"""F1, the image encoder, and the backbones that it can have."""

from fdrn_adapter.encoders.backbone import Backbone, EncoderFamily, Tap
from fdrn_adapter.encoders.catalogue import FAMILIES, encoder_names

__all__ = ["FAMILIES", "Backbone", "EncoderFamily", "Tap", "encoder_names"]
