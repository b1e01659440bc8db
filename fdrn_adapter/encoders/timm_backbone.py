"""Any network of timm as the backbone of the image encoder."""

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter.encoders.backbone import Backbone, EncoderFamily, Tap
from fdrn_adapter.encoders.offsets import measure_offsets
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.grafts.injection import HIGH, LOW, MID
from fdrn_adapter.hosts.description import HIGH_STRIDE, LOW_STRIDE, MID_STRIDE, HostInfo

TIMM_PREFIX = "timm:"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_STRIDES = {LOW: LOW_STRIDE, MID: MID_STRIDE, HIGH: HIGH_STRIDE}


class TimmBackbone(Backbone):
    """Any timm backbone with maps at stride 4 and 16 (the paper's open question, Sec. 5).

    The image is padded at the bottom and right to a multiple of the largest stride, so that
    backbones with 'same' padding keep one offset, which is then measured once by `measure_offset`.

    Raises:
        ValueError: timm does not know the name, or the backbone lacks one of the strides.
    """

    def __init__(self, name: str, use_low: bool, use_high: bool, use_mid: bool = False):
        super().__init__()
        self.timm_name = name
        probe = _features_only(name)
        strides = probe.feature_info.reduction()
        used = {LOW: use_low, MID: use_mid, HIGH: use_high}
        wanted = [level for level in used if used[level]]
        self.offers = (LOW, MID, HIGH) if use_mid else (LOW, HIGH)
        indices = {level: _deepest(name, strides, _STRIDES[level]) for level in wanted}
        infos = {level: probe.feature_info[i] for level, i in indices.items()}
        self.out_indices = sorted(indices.values())
        self.net = _features_only(name, out_indices=tuple(self.out_indices))
        config = self.net.pretrained_cfg or {}
        self.mean = tuple(config.get("mean", IMAGENET_MEAN))
        self.std = tuple(config.get("std", IMAGENET_STD))
        self.multiple = max(strides[i] for i in self.out_indices)
        self.channels_last_maps = getattr(self.net, "output_fmt", "NCHW") == "NHWC"
        self._position = {level: self.out_indices.index(i) for level, i in indices.items()}
        _cut(self.net, [info["module"] for info in infos.values()])
        offsets = measure_offsets(
            self, {_STRIDES[level]: position for level, position in self._position.items()}
        )
        for level, info in infos.items():
            grid = Grid(_STRIDES[level], offsets[_STRIDES[level]])
            self.taps[level] = Tap(info["module"], info["num_chs"], grid)

    def load_pretrained(self, name: str) -> None:
        try:
            net = _timm(self.timm_name).create_model(
                self.timm_name, features_only=True, pretrained=True,
                out_indices=tuple(self.out_indices),
            )
            _cut(net, [tap.path for tap in self.taps.values()])
        except Exception as error:  # timm and its hub client raise whatever the transport does
            raise ValueError(
                f"timm cannot get the pretrained weights of {self.timm_name!r} "
                f"({type(error).__name__}: {error}). Download them elsewhere and pass the file as "
                "encoder_weights."
            ) from error
        self.net.load_state_dict(net.state_dict())

    def maps(self, x: Tensor) -> list[Tensor]:
        """All selected maps of x (B, 3, H, W), channels first."""
        rows, cols = x.shape[-2:]
        pad = (0, -cols % self.multiple, 0, -rows % self.multiple)
        if torch.jit.is_tracing() or any(pad):  # a trace is for images of any size
            x = F.pad(x, pad, mode="replicate")
        maps = self.net(x)
        return [m.permute(0, 3, 1, 2) if self.channels_last_maps else m for m in maps]

    def forward(self, x: Tensor) -> tuple[Tensor | None, ...]:
        maps = self.maps(x)
        places = [self._position.get(level) for level in self.offers]
        return tuple(None if place is None else maps[place] for place in places)


def _timm(name: str) -> Any:
    try:
        import timm  # an optional package, and slow to import
    except ImportError as error:
        raise ValueError(
            f"encoder='{TIMM_PREFIX}{name}' needs timm: pip install fdrn_adapter[timm]"
        ) from error
    return timm


def _features_only(name: str, **options: Any) -> nn.Module:
    """A timm network that returns its maps, at random weights."""
    timm = _timm(name)
    try:
        return timm.create_model(name, features_only=True, pretrained=False, **options)
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        close = timm.list_models(f"*{name.split('.')[0].split('_')[-1]}*")[:8]
        raise ValueError(
            f"timm cannot build {name!r} as a features_only backbone: {error}. Names that "
            f"look alike: {close}; timm.list_models() lists all."
        ) from error


def _deepest(name: str, strides: list[int], stride: int) -> int:
    """Index of the last map at a stride."""
    if stride not in strides:
        raise ValueError(
            f"timm backbone {name!r} has maps at strides {strides}; FDRN reads strides "
            f"{LOW_STRIDE} and {HIGH_STRIDE}, and {MID_STRIDE} for f_mid. Choose a backbone with "
            "them."
        )
    return max(i for i, s in enumerate(strides) if s == stride)


def _cut(net: nn.Module, taps: list[str]) -> None:
    """Drop the blocks behind the last tap, which timm would run in vain.

    Known for networks whose taps are entries of one `blocks` sequence (EfficientNets, MobileNets);
    others stay whole.
    """
    blocks = getattr(net, "blocks", None)
    numbers = [path.removeprefix("blocks.") for path in taps]
    if isinstance(blocks, nn.Sequential) and all(number.isdecimal() for number in numbers):
        net.blocks = blocks[: max(map(int, numbers)) + 1]


class TimmEncoders(EncoderFamily):
    """timm's networks; there is one map at each stride."""

    name = "timm"
    prefix = TIMM_PREFIX
    help = (
        "any timm backbone with feature maps at stride 4 and 16 (pip install fdrn_adapter[timm])"
    )

    def may_stand_in_files(self, encoder: str) -> bool:
        # timm also takes repositories on the net and folders ("hf-hub:...", "local-dir:...",
        # "user/model"), whose content then decides what is built.
        return re.fullmatch(TIMM_PREFIX + "[A-Za-z0-9][A-Za-z0-9_.]*", encoder) is not None

    def mid_blocks(self, encoder: str) -> int:
        return 1

    def build(
        self, encoder: str, host: nn.Module, info: HostInfo, b_low: int | None, b_high: int | None,
        b_mid: int | None = None,
    ) -> TimmBackbone:
        name = encoder.removeprefix(TIMM_PREFIX)
        return TimmBackbone(name, b_low is not None, b_high is not None, b_mid is not None)


TIMM = TimmEncoders()
