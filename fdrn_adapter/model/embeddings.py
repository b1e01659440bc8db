"""Features out of an embedding that a tool has already."""

import torch
from torch import Tensor

from fdrn_adapter.encoders.sam_onnx import SIDE, SamOnnx
from fdrn_adapter.encoders.sam_space import SAM_CHANNELS
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.model.network import FDRNModel


def features_from_embedding(
    model: FDRNModel, embedding: Tensor, image_size: tuple[int, int]
) -> ImageFeatures:
    """Image features out of SAM's embedding of an image; no image encoder runs.

    Annotation tools and SAM's own predictor keep that embedding. It has to be of the space that the
    model was trained on (SAM ViT-H, MobileSAM and their like share one).

    Args:
        model: an FDRN model with encoder="onnx:FILE".
        embedding: (1, 256, 64, 64), of the image with its longest side at 1024 pixels, padded at
            the bottom and right. An array is taken too.
        image_size: rows and columns of the image.

    Returns:
        what `model.encode_image(image)` gives, for `model.recycling`.

    Raises:
        ValueError: another model, shape or size.
    """
    encoder = getattr(model, "image_encoder", None)
    if encoder is None or not isinstance(encoder.backbone, SamOnnx):
        raise ValueError(
            "features_from_embedding takes a model whose encoder is 'onnx:FILE', such as the "
            "zoo's sam-hrnet18s; this one's image features are not SAM's embeddings."
        )
    embedding = torch.as_tensor(embedding)
    rows, cols = (int(side) for side in image_size)
    if embedding.ndim != 4 or tuple(embedding.shape[1:]) != (SAM_CHANNELS, 64, 64):
        raise ValueError(
            f"embedding should have the shape (1, {SAM_CHANNELS}, 64, 64), got "
            f"{tuple(embedding.shape)}."
        )
    if min(rows, cols) < 1:
        raise ValueError(f"image_size is (rows, columns) in pixels, got {tuple(image_size)}.")
    scale = SIDE / max(rows, cols)
    size = max(1, round(rows * scale)), max(1, round(cols * scale))
    with torch.no_grad():
        maps = {"embedding": encoder.backbone.components_of(embedding, size)}
        return encoder.features_from(maps, (rows, cols), size)
