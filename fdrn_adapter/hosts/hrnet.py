"""HRNet hosts: HRNetModel of RITM, ritm-annotation and FocalClick."""

from torch import nn

from fdrn_adapter.errors import UnsupportedHostError
from fdrn_adapter.features import current
from fdrn_adapter.features.intake import Intake
from fdrn_adapter.grafts.injection import BranchInjection
from fdrn_adapter.hosts.description import (
    HIGH_BRANCH,
    LOW_BRANCH,
    MID_BRANCH,
    HostInfo,
    common_fields,
    framework,
    pipeline_of,
)
from fdrn_adapter.hosts.family import HostFamily

_BACKBONE = "feature_extractor"
_STRIDES = (4, 8, 16)  # of the branches of stage 3


class HRNetFamily(HostFamily):
    """Features enter two branches of modules of stage 3; clicks come in behind `conv1`."""

    name = "hrnet"
    title = "RITM or FocalClick HRNetModel"
    supported = (
        "HRNetModel (HRNet-18s, 18, 32 with OCR) of RITM, ritm-annotation or FocalClick (ClickSEG)"
    )
    parts = (
        "normalization", "prepare_input",
        *(f"{_BACKBONE}.{part}"
          for part in ("conv1", "layer1", "stage2", "stage3", "stage4", "transition2")),
    )
    engine_parts = tuple(
        f"{_BACKBONE}.{part}"
        for part in ("compute_pre_stage_features", "compute_hrnet_feats", "conv2", "bn2",
                     "aggregate_hrnet_features", "relu")
    )

    def describe(self, net: nn.Module) -> HostInfo:
        backbone = net.feature_extractor
        branches = [getattr(module, "num_branches", None) for module in backbone.stage3]
        if not branches or any(n != 3 for n in branches):
            raise UnsupportedHostError(
                f"{_BACKBONE}.stage3 of {type(net).__name__} should be a Sequential of "
                f"multi-resolution modules with 3 branches each, found branches {branches}."
            )
        channels = backbone.stage3[0].get_num_inchannels()
        width = int(getattr(backbone, "width", channels[LOW_BRANCH]))
        pipeline = pipeline_of(net)
        return HostInfo(
            family=self.name,
            name=f"{framework(pipeline)}HRNet of width {width} with {len(branches)} modules in "
            "stage 3",
            backbone=_BACKBONE,
            low_site=f"{_BACKBONE}.stage3",
            high_site=f"{_BACKBONE}.stage3",
            low_blocks=len(branches),
            high_blocks=len(branches),
            low_channels=int(channels[LOW_BRANCH]),
            high_channels=int(channels[HIGH_BRANCH]),
            mid_site=f"{_BACKBONE}.stage3",
            mid_blocks=len(branches),
            mid_channels=int(channels[MID_BRANCH]),
            click_encoder="maps_transform",
            **common_fields(net, pipeline, "maps_transform", int(backbone.conv1.out_channels)),
        )

    def injection(
        self, module: nn.Module, intake: Intake, key: current.Key
    ) -> BranchInjection:
        branch = _STRIDES.index(intake.grid.stride)
        return BranchInjection(module, intake, key, branch)

    def timed_parts(self, host: nn.Module, info: HostInfo) -> dict[str, list[nn.Module]]:
        backbone = host.get_submodule(info.backbone)
        stem = ("conv1", "bn1", "conv2", "bn2", "layer1")
        head = ("aux_head", "conv3x3_ocr", "ocr_gather_head", "ocr_distri_head", "cls_head")
        return {
            "stem and layer 1": [getattr(backbone, name) for name in stem],
            **{f"stage {i}": [getattr(backbone, f"stage{i}")] for i in (2, 3, 4)},
            "head": [getattr(backbone, name) for name in head if hasattr(backbone, name)],
        }


HRNET = HRNetFamily()
