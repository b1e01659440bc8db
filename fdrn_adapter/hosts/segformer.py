"""SegFormer hosts: SegFormerModel of FocalClick."""

from torch import nn

from fdrn_adapter.hosts.description import HostInfo, common_fields, framework, pipeline_of


def describe_segformer(net: nn.Module) -> HostInfo:
    backbone = net.feature_extractor.backbone
    stages = [getattr(backbone, f"block{i}") for i in (1, 2, 3)]
    widths = [getattr(backbone, f"norm{i}").normalized_shape[0] for i in (1, 2, 3)]
    path, pipeline = "feature_extractor.backbone", pipeline_of(net)
    side = f"{path}.patch_embed_side1"
    return HostInfo(
        family="segformer",
        name=f"{framework(pipeline)}SegFormer of width {widths[0]} with {len(stages[2])} blocks "
        "in stage 3",
        backbone=path,
        low_site=f"{path}.block1",
        high_site=f"{path}.block3",
        low_blocks=len(stages[0]),
        high_blocks=len(stages[2]),
        low_channels=widths[0],
        high_channels=widths[2],
        click_encoder=side,
        **common_fields(net, pipeline, side, widths[0]),
    )
