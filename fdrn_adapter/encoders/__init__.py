"""F1, the image encoder, and the backbones that it can have."""

from fdrn_adapter import lazy

__getattr__, __dir__, __all__ = lazy.face(__name__, {
    "backbone": ("Backbone", "EncoderFamily", "Tap"),
    "catalogue": ("FAMILIES", "encoder_names"),
})
