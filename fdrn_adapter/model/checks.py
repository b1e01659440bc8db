"""What a model refuses to take: images, points and features of another kind."""

import torch
from torch import Tensor, nn

from fdrn_adapter.encoders.image_encoder import ImageEncoder
from fdrn_adapter.errors import FeatureMismatchError
from fdrn_adapter.features.image_features import ImageFeatures


def check_click(image: Tensor, points: Tensor, with_prev_mask: bool, dtype: torch.dtype) -> None:
    """Refuse a crop or clicks that no network of this kind takes.

    Args:
        image: should be (B, 3 or 4, H, W), of `dtype`.
        points: should be (B, 2N, 3).
        with_prev_mask: whether the fourth channel belongs in.
        dtype: of the model.

    Raises:
        ValueError: another shape or dtype.
    """
    channels = 3 + bool(with_prev_mask)
    what = "RGB and the previous mask" if channels == 4 else "RGB"
    remedy = (
        f"this model takes {what}"
        + (": torch.cat([image, prev_mask], dim=1), zeros at the first click" * (channels == 4))
    )
    _check_shape(image, channels, dtype, remedy)
    if points.ndim != 3 or points.shape[2] != 3 or points.shape[1] % 2 or not points.shape[1]:
        raise ValueError(
            f"points should have the shape (B, 2N, 3), rows of (row, col, order), N positive "
            f"then N negative; got {tuple(points.shape)}."
        )
    if len(points) != len(image):
        raise ValueError(f"{len(image)} images but points for {len(points)}.")


def check_image(image: Tensor, dtype: torch.dtype) -> None:
    """Refuse what is no image to be encoded.

    Raises:
        ValueError: another shape, dtype or range.
    """
    _check_shape(image, 3, dtype, "encode_image takes the image without previous mask")
    low, high = torch.aminmax(image)
    if low < -0.01 or high > 1.01:
        raise ValueError(
            f"encode_image takes un-normalised RGB in [0, 1]; values run from {low:.3g} to "
            f"{high:.3g}. Divide 8-bit images by 255 and do not normalise: the model does."
        )


def _check_shape(image: Tensor, channels: int, dtype: torch.dtype, remedy: str) -> None:
    if not isinstance(image, Tensor) or image.ndim != 4 or image.shape[1] != channels:
        got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(
            f"The image should have the shape (B, {channels}, H, W), got {got}; {remedy}."
        )
    if image.dtype != dtype:
        raise ValueError(
            f"The image has dtype {image.dtype}, the model {dtype}. Pass RGB in [0, 1]: "
            "image.float() / 255 for 8-bit images, image.to(dtype) otherwise."
        )


def check_features(
    features: ImageFeatures, encoder: ImageEncoder | None, device: torch.device | None
) -> None:
    """Refuse features that another model encoded, or that are elsewhere.

    Args:
        features: to be recycled.
        encoder: the model's, None where it has none and takes any.
        device: of the model, None for an engine that moves them itself.

    Raises:
        FeatureMismatchError: they do not fit.
    """
    if not isinstance(features, ImageFeatures):
        raise FeatureMismatchError(
            "features should come from model.encode_image(image), got "
            f"{type(features).__name__}."
        )
    if encoder is None:
        return
    mine = encoder.architecture
    if features.architecture != mine:
        raise FeatureMismatchError(
            f"These features come from another image encoder: {features.architecture}, this "
            f"model has {mine}. Call encode_image of this model."
        )
    weights = encoder.fingerprint() if features.weights else ""
    if features.weights != weights:
        raise FeatureMismatchError(
            "These features come from the same kind of image encoder with other weights "
            f"({features.weights}, this model has {weights}). Encode the image again with "
            "this model."
        )
    where = next(iter(features.maps.values())).device
    if device is not None and where != device:
        raise FeatureMismatchError(
            f"The features are on {where}, the model on {device}: features.to('{device}')."
        )


def check_usable(model: nn.Module) -> None:
    """Refuse networks that sessions do not take, also stock ones.

    Raises:
        ValueError: one in training mode, in half precision, or in several.
    """
    if model.training:
        raise ValueError("The model is in training mode; call model.eval() first.")
    kinds = _dtypes(model)
    dtype = next(iter(kinds))
    if len(kinds) > 1:
        raise ValueError(
            f"Parts of the model are in {', '.join(sorted(map(str, kinds)))}: model.float()."
        )
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"The model is in {dtype}, and places on images need more digits: model.float(). On a "
            "GPU engine='cuda' with FDRN_PRECISION=fast computes in half precision where it can."
        )


def _dtypes(model: nn.Module) -> set[torch.dtype]:
    """Of the parameters. Asked for every image: a third of the time of `model.parameters()`."""
    modules, parameters = [vars(model)], []
    for held in modules:  # grows while it is walked
        parameters.extend(held["_parameters"].values())
        if children := held["_modules"]:
            modules.extend(vars(child) for child in children.values() if child is not None)
    return {p.dtype for p in parameters if p is not None}
