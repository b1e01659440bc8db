"""What the adapter needs to know about a stock network, found by its structure.

The code bases (RITM, `ritm-annotation`, ClickSEG) share no import path, so a host is recognised by
the modules it has, and described by data: where its backbone is, where features enter, how clicks
come in. What differs by more than data is in `taps` and `click_encoder`, by family. This is one of
the few places that know names of the stock code.
"""

import copy
import importlib
import logging
from dataclasses import dataclass
from typing import Any

from torch import nn

from fdrn_adapter.errors import CheckpointError, UnsupportedHostError

logger = logging.getLogger(__name__)

# Packages that carry the stock classes under the same sub-paths, in the order they are tried.
HOST_PACKAGES = ("isegm", "ritm_annotation")
LOW_STRIDE, HIGH_STRIDE = 4, 16
LOW_BRANCH, HIGH_BRANCH = 0, 2
# Sides of the fixed crops of FDRNs on either framework (Table 2), pixels.
RITM_CROP, FOCALCLICK_CROP = 288, 256
_HRNET_PARTS = ("conv1", "layer1", "stage2", "stage3", "stage4", "transition2")
_SEGFORMER_STAGE = ("patch_embed{}", "block{}", "norm{}")


@dataclass(frozen=True)
class HostInfo:
    """A stock network as the adapter sees it. Paths are module paths inside the network.

    Attributes:
        family: "hrnet" or "segformer".
        package: top-level package of the network's class, "isegm" or "ritm_annotation".
        name: for messages.
        backbone: path of the stock backbone.
        low_site, high_site: paths of the block lists whose blocks f_low and f_high enter.
        low_blocks, high_blocks: how many blocks these have; b_low_tilde and b_high_tilde index
            them.
        low_channels, high_channels: channels of the maps there, at stride 4 and 16.
        click_maps, click_encoder: paths of what draws clicks and of what encodes the drawn maps.
        click_channels: channels of the stock click encoder's output, 0 when it has none.
        missing_click_encoder: why the clicks cannot be decoupled, empty when they can.
        pipeline: "s1" or "s2" of FocalClick, "" elsewhere. In s1 the network halves its input.
        refines: whether it has FocalClick's second stage on a focus crop (`refine`).
        fdrn_crop: side in pixels of the fixed crop of its FDRN variants (Table 2).
    """

    family: str
    package: str
    name: str
    backbone: str
    low_site: str
    high_site: str
    low_blocks: int
    high_blocks: int
    low_channels: int
    high_channels: int
    click_maps: str
    click_encoder: str
    click_channels: int
    missing_click_encoder: str = ""
    pipeline: str = ""
    refines: bool = False
    fdrn_crop: int = RITM_CROP

    def network_size(self, crop_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns that the host's first convolution sees of a crop.

        FocalClick's pipeline s1 resizes the crop to half its side with align_corners=True, which
        maps corner pixels onto corner pixels. So does the cutting of the crop: both together are
        one such resize of the roi to the halved size. The host's cells keep their strides (4 and
        16) and offset (0) on that smaller crop, and need no third frame.
        """
        if self.pipeline != "s1":
            return tuple(crop_size)
        return tuple(side // 2 for side in crop_size)


def describe_host(net: nn.Module) -> HostInfo:
    """Recognise a stock network by its structure.

    Raises:
        UnsupportedHostError: it lacks something; the message lists what was looked for.
    """
    if not isinstance(net, nn.Module):
        raise UnsupportedHostError(
            f"wrap() takes a stock network (torch.nn.Module), got {type(net).__name__}. Build it "
            "with HRNetModel(...) or load a checkpoint with the code base's load_is_model first."
        )
    extractor = getattr(net, "feature_extractor", None)
    missing = [n for n in ("normalization", "prepare_input") if not hasattr(net, n)]
    if hasattr(getattr(extractor, "backbone", None), "patch_embed1"):
        family, prefix = "SegFormerModel", "feature_extractor.backbone"
        parts = [part.format(i) for part in _SEGFORMER_STAGE for i in (1, 2, 3)]
        missing += _missing(extractor.backbone, prefix, (*parts, "patch_embed_side1"))
    else:
        family, prefix = "HRNetModel", "feature_extractor"
        missing += _missing(extractor, prefix, _HRNET_PARTS)
    if missing:
        raise UnsupportedHostError(
            f"{type(net).__module__}.{type(net).__name__} is not a supported host: looked for the "
            f"parts of a RITM or FocalClick {family} and did not find {', '.join(missing)}. "
            "Supported: HRNetModel (HRNet-18s, 18, 32 with OCR) of RITM, ritm-annotation or "
            "FocalClick (ClickSEG), and SegFormerModel (B0, B3) of FocalClick."
        )
    return _describe_hrnet(net) if family == "HRNetModel" else _describe_segformer(net)


def _missing(module: nn.Module | None, prefix: str, parts: tuple[str, ...]) -> list[str]:
    return [f"{prefix}.{part}" for part in parts if not hasattr(module, part)]


def _describe_hrnet(net: nn.Module) -> HostInfo:
    backbone = net.feature_extractor
    branches = [getattr(module, "num_branches", None) for module in backbone.stage3]
    if not branches or any(n != 3 for n in branches):
        raise UnsupportedHostError(
            f"feature_extractor.stage3 of {type(net).__name__} should be a Sequential of "
            f"multi-resolution modules with 3 branches each, found branches {branches}."
        )
    channels = backbone.stage3[0].get_num_inchannels()
    width = int(getattr(backbone, "width", channels[LOW_BRANCH]))
    pipeline = _pipeline(net)
    return HostInfo(
        family="hrnet",
        name=f"{_framework(pipeline)}HRNet of width {width} with {len(branches)} modules in stage "
        "3",
        backbone="feature_extractor",
        low_site="feature_extractor.stage3",
        high_site="feature_extractor.stage3",
        low_blocks=len(branches),
        high_blocks=len(branches),
        low_channels=int(channels[LOW_BRANCH]),
        high_channels=int(channels[HIGH_BRANCH]),
        click_encoder="maps_transform",
        **_common(net, pipeline, "maps_transform", int(backbone.conv1.out_channels)),
    )


def _describe_segformer(net: nn.Module) -> HostInfo:
    backbone = net.feature_extractor.backbone
    stages = [getattr(backbone, f"block{i}") for i in (1, 2, 3)]
    widths = [getattr(backbone, f"norm{i}").normalized_shape[0] for i in (1, 2, 3)]
    path, pipeline = "feature_extractor.backbone", _pipeline(net)
    side = f"{path}.patch_embed_side1"
    return HostInfo(
        family="segformer",
        name=f"{_framework(pipeline)}SegFormer of width {widths[0]} with {len(stages[2])} blocks "
        "in stage 3",
        backbone=path,
        low_site=f"{path}.block1",
        high_site=f"{path}.block3",
        low_blocks=len(stages[0]),
        high_blocks=len(stages[2]),
        low_channels=widths[0],
        high_channels=widths[2],
        click_encoder=side,
        **_common(net, pipeline, side, widths[0]),
    )


def _common(net: nn.Module, pipeline: str, click_encoder: str, click_channels: int) -> dict:
    """The fields that both families fill in alike."""
    # FocalClick networks have maps of several radii; the coarse stage draws with the base ones.
    click_maps = "dist_maps_base" if hasattr(net, "dist_maps_base") else "dist_maps"
    reason = _why_no_click_encoder(net, click_maps, click_encoder)
    return {
        "package": type(net).__module__.partition(".")[0],
        "click_maps": click_maps,
        "click_channels": 0 if reason else click_channels,
        "missing_click_encoder": reason,
        "pipeline": pipeline,
        "refines": callable(getattr(net, "refine", None)),
        "fdrn_crop": FOCALCLICK_CROP if pipeline else RITM_CROP,
    }


def _pipeline(net: nn.Module) -> str:
    """"s1" or "s2"; the stock forward takes everything that is not "s1" for "s2"."""
    version = getattr(net, "pipeline_version", None)
    return "" if version is None else "s1" if version == "s1" else "s2"


def _framework(pipeline: str) -> str:
    return f"FocalClick-{pipeline} " if pipeline else ""


def _why_no_click_encoder(net: nn.Module, click_maps: str, click_encoder: str) -> str:
    """Empty when the host encodes clicks by a module of their own, else why it does not."""
    if getattr(net, "rgb_conv", None) is not None:
        return "it joins clicks and image by an rgb_conv (use_rgb_conv=True) instead of Conv1S"
    if getattr(net, "clicks_groups", None) is not None:
        return "it groups clicks by order (clicks_groups), which is a decoupling of its own"
    for path in (click_encoder, click_maps):
        owner, _, name = path.rpartition(".")
        if not isinstance(getattr(net.get_submodule(owner), name, None), nn.Module):
            return f"it has no module {path}"
    return ""


def copy_network(net: nn.Module) -> nn.Module:
    """Deep copy that keeps what the stock code hangs on parameters.

    `copy.deepcopy` of a Parameter drops its attributes, and with them the `lr_mult` that the stock
    optimizer reads: a copy would silently train its backbone ten times faster than the original.
    """
    duplicate = copy.deepcopy(net)
    for old, new in zip(net.parameters(), duplicate.parameters(), strict=True):
        new.__dict__.update(old.__dict__)
    return duplicate


def build_host(config: dict[str, Any], **kwargs: Any) -> nn.Module:
    """Build a stock network from the `_config` that the stock code stores in checkpoints.

    The package named in the config is tried first, then its siblings that carry the same class: a
    RITM checkpoint opens with ritm-annotation installed and the other way round.

    Args:
        config: {"class": dotted name, "params": {...}} as written by the stock `serialize`.
        **kwargs: overrides, such as cpu_dist_maps=True.

    Raises:
        CheckpointError: no installed package has the class.
    """
    root, _, path = config["class"].partition(".")
    packages = [root, *(name for name in HOST_PACKAGES if name != root)]
    tried = []
    for package in packages:
        module_path, _, class_name = f"{package}.{path}".rpartition(".")
        try:
            getattr(importlib.import_module(module_path), class_name)
            serialization = importlib.import_module(f"{package}.utils.serialization")
        except (ImportError, AttributeError) as error:
            tried.append(f"{package} ({error})")
            continue
        if package != root:
            logger.info("%s is built with the package %s", config["class"], package)
        return serialization.load_model(_renamed(config, root, package), **kwargs)
    raise CheckpointError(
        f"The network class {config['class']} cannot be imported: tried {'; '.join(tried)}. "
        "Install it with `pip install fdrn_adapter[ritm]` or make a checkout importable "
        "(`--codebase DIR`, or fdrn_adapter.codebase.activate(DIR))."
    )


def _renamed(config: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The config with its class names moved from one package to its sibling."""
    if old == new:
        return config

    def move(name: str) -> str:
        return new + name[len(old) :] if name.startswith(old + ".") else name

    params = {
        key: {**param, "value": move(param["value"])} if param["type"] == "class" else param
        for key, param in config["params"].items()
    }
    return {"class": move(config["class"]), "params": params}
