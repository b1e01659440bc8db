"""HRNet hosts: HRNetModel of RITM, ritm-annotation and FocalClick."""

from torch import nn

from fdrn_adapter.errors import UnsupportedHostError
from fdrn_adapter.hosts.description import (
    HIGH_BRANCH,
    LOW_BRANCH,
    HostInfo,
    common_fields,
    framework,
    pipeline_of,
)


def describe_hrnet(net: nn.Module) -> HostInfo:
    backbone = net.feature_extractor
    branches = [getattr(module, "num_branches", None) for module in backbone.stage3]
    if not branches or any(n != 3 for n in branches):
        raise UnsupportedHostError(
            f"feature_extractor.stage3 of {type(net).__name__} should be a Sequential of "
            f"multi-resolution modules with 3 branches each, found branches {branches}."
        )
    channels = backbone.stage3[0].get_num_inchannels()
    width = int(getattr(backbone, "width", channels[LOW_BRANCH]))
    pipeline = pipeline_of(net)
    return HostInfo(
        family="hrnet",
        name=f"{framework(pipeline)}HRNet of width {width} with {len(branches)} modules in stage "
        "3",
        backbone="feature_extractor",
        low_site="feature_extractor.stage3",
        high_site="feature_extractor.stage3",
        low_blocks=len(branches),
        high_blocks=len(branches),
        low_channels=int(channels[LOW_BRANCH]),
        high_channels=int(channels[HIGH_BRANCH]),
        click_encoder="maps_transform",
        **common_fields(net, pipeline, "maps_transform", int(backbone.conv1.out_channels)),
    )
