"""Backbones of the image encoder by name: networks cut after their third stage.

Every backbone takes a normalised image and returns (f_low, f_high); `low` and `high` say where the
two maps come from, how many channels they have and where their cells lie on the image.
"""

import importlib

from torch import nn

from fdrn_adapter.encoders import segformer
from fdrn_adapter.encoders.hrnet import HRNET_MODULE, HRNET_VARIANTS, HRNetBackbone
from fdrn_adapter.encoders.segformer import SegFormerBackbone
from fdrn_adapter.encoders.timm_backbone import TIMM_PREFIX, TimmBackbone
from fdrn_adapter.hosts.description import HostInfo


def encoder_names() -> str:
    """The allowed values of `encoder=`, for messages."""
    names = (*HRNET_VARIANTS, *segformer.VARIANTS)
    return ", ".join(map(repr, names)) + ", or 'timm:<name>' for any timm " \
        "backbone with feature maps at stride 4 and 16 (pip install fdrn_adapter[timm])"


def build_backbone(
    name: str, host: nn.Module, info: HostInfo, b_low: int | None, b_high: int | None
) -> nn.Module:
    """The backbone called `name`, cut after its taps.

    Args:
        name: see `encoder_names`.
        host: the stock network, whose code base provides the class.
        info: description of the host.
        b_low, b_high: block indices, None for a map that is not used.

    Raises:
        ValueError: unknown name (the message lists them), or the host's code base has no such
            network.
    """
    backbone = host.get_submodule(info.backbone)
    if name in HRNET_VARIANTS:
        stock = backbone
        if info.family != "hrnet":
            stock = importlib.import_module(f"{info.package}.{HRNET_MODULE}").HighResolutionNet
        return HRNetBackbone(stock, name, b_low, b_high)
    if name in segformer.VARIANTS:
        stock = segformer.stock_class(name, backbone, info)
        return SegFormerBackbone(stock, name, b_low, b_high)
    if name.startswith(TIMM_PREFIX):
        return TimmBackbone(name.removeprefix(TIMM_PREFIX), b_low is not None, b_high is not None)
    raise ValueError(f"Unknown encoder {name!r}. Allowed: {encoder_names()}.")


def num_blocks(name: str) -> tuple[int, int]:
    """How many blocks b_low and b_high can index in an encoder."""
    if name in HRNET_VARIANTS:
        return (HRNET_VARIANTS[name][1],) * 2  # both in stage 3
    if name in segformer.VARIANTS:
        return segformer.VARIANTS[name].depths[::2]  # in stages 1 and 3
    if name.startswith(TIMM_PREFIX):
        return 1, 1  # one map per stride
    raise ValueError(f"Unknown encoder {name!r}. Allowed: {encoder_names()}.")
