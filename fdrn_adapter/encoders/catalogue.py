"""The table of image encoders: networks cut behind their third stage, by name."""

from typing import Any

from torch import nn

from fdrn_adapter.encoders.backbone import Backbone, EncoderFamily
from fdrn_adapter.encoders.hrnet import HRNET
from fdrn_adapter.encoders.image_encoder import ImageEncoder
from fdrn_adapter.encoders.lite_pyramid import LITE_PYRAMID
from fdrn_adapter.encoders.sam_onnx import SAM_ONNX
from fdrn_adapter.encoders.segformer import SEGFORMER
from fdrn_adapter.encoders.timm_backbone import TIMM
from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.hosts.description import HostInfo
from fdrn_adapter.table import Table

FAMILIES: Table[EncoderFamily] = Table(
    "fdrn_adapter.encoders", (LITE_PYRAMID, HRNET, SEGFORMER, TIMM, SAM_ONNX)
)


def encoder_names() -> str:
    """The allowed values of `encoder=`, for messages."""
    names = [repr(name) for family in FAMILIES.values() for name in family.names]
    prefixed = [f"'{f.prefix}<name>' for {f.help}" for f in FAMILIES.values() if f.prefix]
    return ", or ".join([", ".join(names), *prefixed])


def family_of(encoder: str) -> EncoderFamily:
    """The family of an encoder.

    Raises:
        ValueError: no name of an encoder; the message lists them.
    """
    if not isinstance(encoder, str):
        raise ValueError(
            f"encoder should be a name, got {encoder!r}. Allowed: {encoder_names()}."
        )
    for family in FAMILIES.values():
        if family.accepts(encoder):
            return family
    raise ValueError(f"Unknown encoder {encoder!r}. Allowed: {encoder_names()}.")


def build_backbone(
    name: str, host: nn.Module, info: HostInfo, b_low: int | None, b_high: int | None,
    b_mid: int | None = None,
) -> Backbone:
    """The backbone called `name`; see `EncoderFamily.build`.

    Raises:
        ValueError: unknown name, or there is no such network here.
    """
    of_mid = {} if b_mid is None else {"b_mid": b_mid}
    return family_of(name).build(name, host, info, b_low, b_high, **of_mid)


def build_encoder(
    backbone: Backbone, name: str, normalization: object, max_side: int, frozen: bool,
    context_channels: int = 0,
) -> ImageEncoder:
    """An image encoder around `backbone`.

    Args:
        backbone: from `build_backbone`; one with its own `mean` and `std` keeps them.
        name: how the user called it.
        normalization: the host's, with `mean` and `std` tensors, for backbones of its code base.
        max_side: see ImageEncoder.
        frozen, context_channels: see ImageEncoder.
    """
    mean, std = backbone.mean, backbone.std
    if mean is None:
        mean, std = (tuple(t.flatten().tolist()) for t in (normalization.mean, normalization.std))
    return ImageEncoder(
        backbone, name, mean, std, backbone.project_low, max_side=max_side, frozen=frozen,
        context_channels=context_channels,
    )


def public_name(name: str | None) -> str | None:
    """What checkpoints call an encoder: a file goes by its name, not by its place."""
    return None if name is None else family_of(name).public_name(name)


def full_name(name: str) -> str:
    """What a user's name of an encoder stands for: a file is named by its whole path.

    Raises:
        ValueError: no name of an encoder, or no such file.
    """
    return family_of(name).full_name(name)


def check_stored(encoder: Any) -> None:
    """See that the image encoder that a checkpoint names is built from installed code alone.

    Raises:
        CheckpointError: it is not.
    """
    if encoder is None:
        return
    if isinstance(encoder, str) and (
        encoder.isidentifier()  # not of any family: it will not be found
        or any(family.may_stand_in_files(encoder) for family in FAMILIES.values())
    ):
        return
    raise CheckpointError(
        f"The checkpoint names the image encoder {repr(encoder)[:80]}; a file may name an encoder "
        "of the code base or a network that timm itself defines ('timm:tf_efficientnet_lite0'), "
        "neither a hub nor a folder. If you trust it: build the model with wrap(host, "
        "encoder=...) and load fdrn_adapter.read_weights(path) into it with load_state_dict."
    )
