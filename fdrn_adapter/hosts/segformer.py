"""SegFormer hosts: SegFormerModel of FocalClick."""

from torch import nn

from fdrn_adapter.features import current
from fdrn_adapter.features.intake import Intake
from fdrn_adapter.grafts.click_encoder import DecoupledPatchEmbedding
from fdrn_adapter.grafts.injection import TokenInjection
from fdrn_adapter.hosts.description import HostInfo, common_fields, framework, pipeline_of
from fdrn_adapter.hosts.family import HostFamily

_BACKBONE = "feature_extractor.backbone"
_SIDE = f"{_BACKBONE}.patch_embed_side1"


class SegFormerFamily(HostFamily):
    """Features enter the tokens of blocks of stages 1 to 3; clicks come in behind stage 1."""

    name = "segformer"
    title = "RITM or FocalClick SegFormerModel"
    supported = "SegFormerModel (B0, B3) of FocalClick"
    parts = (
        "normalization", "prepare_input",
        *(f"{_BACKBONE}.{part}{i}" for part in ("patch_embed", "block", "norm") for i in (1, 2, 3)),
        _SIDE,
    )
    engine_parts = (
        *(f"{_BACKBONE}.block{i}" for i in (1, 2, 3, 4)), "feature_extractor.decode_head",
    )
    default_encoder = "segformer_b0"
    low_stage = "the host's stage 1"
    mid_stage = "the host's stage 2"
    value_factor = 2
    click_encoder = DecoupledPatchEmbedding

    def describe(self, net: nn.Module) -> HostInfo:
        backbone = net.get_submodule(_BACKBONE)
        stages = [getattr(backbone, f"block{i}") for i in (1, 2, 3)]
        widths = [getattr(backbone, f"norm{i}").normalized_shape[0] for i in (1, 2, 3)]
        pipeline = pipeline_of(net)
        return HostInfo(
            family=self.name,
            name=f"{framework(pipeline)}SegFormer of width {widths[0]} with {len(stages[2])} "
            "blocks in stage 3",
            backbone=_BACKBONE,
            low_site=f"{_BACKBONE}.block1",
            high_site=f"{_BACKBONE}.block3",
            low_blocks=len(stages[0]),
            high_blocks=len(stages[2]),
            low_channels=widths[0],
            high_channels=widths[2],
            mid_site=f"{_BACKBONE}.block2",
            mid_blocks=len(stages[1]),
            mid_channels=widths[1],
            click_encoder=_SIDE,
            **common_fields(net, pipeline, _SIDE, widths[0]),
        )

    def injection(self, module: nn.Module, intake: Intake, key: current.Key) -> TokenInjection:
        return TokenInjection(module, intake, key)

    def timed_parts(self, host: nn.Module, info: HostInfo) -> dict[str, list[nn.Module]]:
        backbone = host.get_submodule(info.backbone)

        def stage(i: int) -> list[nn.Module]:
            return [getattr(backbone, f"patch_embed{i}"), *getattr(backbone, f"block{i}")]

        return {
            "stem and layer 1": stage(1),
            **{f"stage {i}": stage(i) for i in (2, 3, 4)},
            "head": [host.feature_extractor.decode_head],
        }


SEGFORMER = SegFormerFamily()
