"""Any network of timm as the backbone of the image encoder."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter.encoders.backbone import Tap
from fdrn_adapter.encoders.offsets import measure_offsets
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.hosts.description import (
    HIGH_STRIDE,
    LOW_STRIDE,
)

TIMM_PREFIX = "timm:"


class TimmBackbone(nn.Module):
    """Any timm backbone with maps at stride 4 and 16 (the paper's open question, Sec. 5).

    The image is padded at the bottom and right to a multiple of the largest stride, so that
    backbones with 'same' padding keep one offset, which is then measured once by `measure_offset`.

    Raises:
        ValueError: timm does not know the name, or the backbone lacks one of the strides.
    """

    project_low = True  # f_low goes on with 32 channels

    def __init__(self, name: str, use_low: bool, use_high: bool):
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise ValueError(
                f"encoder='timm:{name}' needs timm: pip install fdrn_adapter[timm]"
            ) from error
        self.timm_name = name
        try:
            probe = timm.create_model(name, features_only=True, pretrained=False)
        except (RuntimeError, AttributeError, TypeError, ValueError) as error:
            close = timm.list_models(f"*{name.split('.')[0].split('_')[-1]}*")[:8]
            raise ValueError(
                f"timm cannot build {name!r} as a features_only backbone: {error}. Names that "
                f"look alike: {close}; timm.list_models() lists all."
            ) from error
        strides = probe.feature_info.reduction()
        indices = {}
        for stride, wanted in ((LOW_STRIDE, use_low), (HIGH_STRIDE, use_high)):
            if wanted and stride not in strides:
                raise ValueError(
                    f"timm backbone {name!r} has maps at strides {strides}; FDRN reads strides "
                    f"{LOW_STRIDE} and {HIGH_STRIDE}. Choose a backbone with both."
                )
            if wanted:
                indices[stride] = max(i for i, s in enumerate(strides) if s == stride)
        self.out_indices = sorted(indices.values())
        self.net = timm.create_model(
            name, features_only=True, pretrained=False, out_indices=tuple(self.out_indices)
        )
        config = self.net.pretrained_cfg or {}
        self.mean = tuple(config.get("mean", (0.485, 0.456, 0.406)))
        self.std = tuple(config.get("std", (0.229, 0.224, 0.225)))
        self.multiple = max(strides[i] for i in self.out_indices)
        self.channels_last_maps = getattr(self.net, "output_fmt", "NCHW") == "NHWC"
        info = {
            stride: (probe.feature_info[i]["module"], probe.feature_info[i]["num_chs"])
            for stride, i in indices.items()
        }
        self._position = {stride: self.out_indices.index(i) for stride, i in indices.items()}
        _cut(self.net, [path for path, _ in info.values()])
        self.low = self.high = None
        offsets = measure_offsets(self, self._position)
        if use_low:
            self.low = Tap(*info[LOW_STRIDE], Grid(LOW_STRIDE, offsets[LOW_STRIDE]))
        if use_high:
            self.high = Tap(*info[HIGH_STRIDE], Grid(HIGH_STRIDE, offsets[HIGH_STRIDE]))

    def pretrained_state(self) -> dict[str, Tensor]:
        """timm's weights of this backbone.

        Raises:
            ValueError: they cannot be had (no network, or timm has none).
        """
        import timm

        try:
            net = timm.create_model(
                self.timm_name, features_only=True, pretrained=True,
                out_indices=tuple(self.out_indices),
            )
            _cut(net, [tap.path for tap in (self.low, self.high) if tap is not None])
        except Exception as error:  # timm and its hub client raise whatever the transport does
            raise ValueError(
                f"timm cannot get the pretrained weights of {self.timm_name!r} "
                f"({type(error).__name__}: {error}). Download them elsewhere and pass the file as "
                "encoder_weights."
            ) from error
        return net.state_dict()

    def maps(self, x: Tensor) -> list[Tensor]:
        """All selected maps of x (B, 3, H, W), channels first."""
        rows, cols = x.shape[-2:]
        pad = (0, -cols % self.multiple, 0, -rows % self.multiple)
        if torch.jit.is_tracing() or any(pad):  # a trace is for images of any size
            x = F.pad(x, pad, mode="replicate")
        maps = self.net(x)
        return [m.permute(0, 3, 1, 2) if self.channels_last_maps else m for m in maps]

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """x: (B, 3, H, W), normalised. Returns (f_low, f_high), None where not tapped."""
        maps = self.maps(x)
        low = None if self.low is None else maps[self._position[LOW_STRIDE]]
        high = None if self.high is None else maps[self._position[HIGH_STRIDE]]
        return low, high


def _cut(net: nn.Module, taps: list[str]) -> None:
    """Drop the blocks behind the last tap, which timm would run in vain.

    Known for networks whose taps are entries of one `blocks` sequence (EfficientNets, MobileNets);
    others stay whole.
    """
    blocks = getattr(net, "blocks", None)
    numbers = [path.removeprefix("blocks.") for path in taps]
    if isinstance(blocks, nn.Sequential) and all(number.isdecimal() for number in numbers):
        net.blocks = blocks[: max(map(int, numbers)) + 1]


