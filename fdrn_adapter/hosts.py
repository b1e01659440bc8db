"""What the adapter needs to know about a stock network, found by its structure.

The code bases (RITM, `ritm-annotation`, ClickSEG) share no import path, so a host is recognised by
the modules it has. This is one of the few places that know names of the stock code.
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


@dataclass(frozen=True)
class HostInfo:
    """A stock network as the adapter sees it.

    Attributes:
        family: "hrnet".
        package: top-level package of the network's class, "isegm" or "ritm_annotation".
        width: channels of the first HRNet branch.
        num_modules: multi-resolution modules in stage 3; b_low_tilde and b_high_tilde index them.
        low_channels, high_channels: channels of the branches at stride 4 and 16.
        click_channels: channels of the stock click encoder's output, 0 when it has none.
        missing_click_encoder: why the clicks cannot be decoupled, empty when they can.
    """

    family: str
    package: str
    width: int
    num_modules: int
    low_channels: int
    high_channels: int
    click_channels: int
    missing_click_encoder: str = ""

    @property
    def name(self) -> str:
        return f"HRNet of width {self.width} with {self.num_modules} modules in stage 3"


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
    backbone = getattr(net, "feature_extractor", None)
    missing = [
        f"feature_extractor.{name}"
        for name in ("conv1", "layer1", "stage2", "stage3", "stage4", "transition2")
        if not hasattr(backbone, name)
    ]
    missing += [name for name in ("normalization", "prepare_input") if not hasattr(net, name)]
    if missing:
        raise UnsupportedHostError(
            f"{type(net).__module__}.{type(net).__name__} is not a supported host: looked for the "
            f"parts of a RITM or FocalClick HRNetModel and did not find {', '.join(missing)}. "
            "Supported: HRNetModel (HRNet-18s, 18, 32 with OCR) of RITM or ritm-annotation."
        )
    stage = backbone.stage3
    branches = [getattr(module, "num_branches", None) for module in stage]
    if not branches or any(n != 3 for n in branches):
        raise UnsupportedHostError(
            f"feature_extractor.stage3 of {type(net).__name__} should be a Sequential of "
            f"multi-resolution modules with 3 branches each, found branches {branches}."
        )
    channels = stage[0].get_num_inchannels()
    reason = _why_no_click_encoder(net)
    return HostInfo(
        family="hrnet",
        package=type(net).__module__.partition(".")[0],
        width=int(getattr(backbone, "width", channels[LOW_BRANCH])),
        num_modules=len(stage),
        low_channels=int(channels[LOW_BRANCH]),
        high_channels=int(channels[HIGH_BRANCH]),
        click_channels=0 if reason else int(backbone.conv1.out_channels),
        missing_click_encoder=reason,
    )


def _why_no_click_encoder(net: nn.Module) -> str:
    """Empty when the host encodes clicks by Conv1S, else the reason why it does not."""
    if getattr(net, "rgb_conv", None) is not None:
        return "it joins clicks and image by an rgb_conv (use_rgb_conv=True) instead of Conv1S"
    if getattr(net, "clicks_groups", None) is not None:
        return "it groups clicks by order (clicks_groups), which is a decoupling of its own"
    for name in ("maps_transform", "dist_maps"):
        if not isinstance(getattr(net, name, None), nn.Module):
            return f"it has no module {name}"
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
