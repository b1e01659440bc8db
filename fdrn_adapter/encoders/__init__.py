"""F1, the image encoder, and the backbones that it can have."""
