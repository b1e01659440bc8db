"""What the adapter needs to know about a stock network, found by its structure.

The code bases (RITM, `ritm-annotation`, ClickSEG) share no import path, so a host is recognised by
the modules it has, and described by data: where its backbone is, where features enter, how clicks
come in. What differs by more than data is in the families (`family`, and one file each). This
wing is one of the few places that know names of the stock code.
"""

from dataclasses import dataclass

from torch import nn

LOW_STRIDE, MID_STRIDE, HIGH_STRIDE = 4, 8, 16
LOW_BRANCH, MID_BRANCH, HIGH_BRANCH = 0, 1, 2
# Sides of the fixed crops of FDRNs on either framework (Table 2), pixels.
RITM_CROP, FOCALCLICK_CROP = 288, 256


@dataclass(frozen=True)
class HostInfo:
    """A stock network as the adapter sees it. Paths are module paths inside the network.

    Attributes:
        family: its row in `catalogue.FAMILIES`: "hrnet", "segformer" or one that was added.
        package: top-level package of the network's class, "isegm" or "ritm_annotation".
        name: for messages.
        backbone: path of the stock backbone.
        low_site, high_site: paths of the block lists whose blocks f_low and f_high enter.
        low_blocks, high_blocks: how many blocks these have; b_low_tilde and b_high_tilde index
            them.
        low_channels, high_channels: channels of the maps there, at stride 4 and 16.
        mid_site, mid_blocks, mid_channels: the same for f_mid, at stride 8; no blocks where there
            is no place for it.
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
    mid_site: str = ""
    mid_blocks: int = 0
    mid_channels: int = 0
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


def common_fields(net: nn.Module, pipeline: str, click_encoder: str, click_channels: int) -> dict:
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


def pipeline_of(net: nn.Module) -> str:
    """"s1" or "s2"; the stock forward takes everything that is not "s1" for "s2"."""
    version = getattr(net, "pipeline_version", None)
    return "" if version is None else "s1" if version == "s1" else "s2"


def framework(pipeline: str) -> str:
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


