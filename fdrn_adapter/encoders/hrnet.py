"""HRNet as the backbone of the image encoder, cut after its third stage."""

from torch import Tensor, nn

from fdrn_adapter.encoders.backbone import Backbone, EncoderFamily, Tap
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.grafts.injection import HIGH, LOW, MID
from fdrn_adapter.hosts.description import (
    HIGH_BRANCH,
    HIGH_STRIDE,
    LOW_BRANCH,
    LOW_STRIDE,
    MID_BRANCH,
    MID_STRIDE,
    HostInfo,
)
from fdrn_adapter.hosts.stock import stock_hrnet

# HRNet encoders by name: the arguments of the stock class and the modules of its third stage.
HRNET_VARIANTS = {
    "hrnet18": ({"width": 18, "small": False}, 4),
    "hrnet18s": ({"width": 18, "small": True}, 3),
}


class HRNetBackbone(Backbone):
    """A stock HRNet up to the last tapped module of stage 3.

    f_low is branch 0 (stride 4) of module b_low, f_mid branch 1 (stride 8) of module b_mid, f_high
    branch 2 (stride 16) of module b_high, all after the module's fuse layers (Sec. 4.1). Later
    modules, stage 4 and the heads are cut off.

    Args:
        host: the host's own backbone, whose class is instantiated with its norm, or the class.
        name: a key of HRNET_VARIANTS.
        b_low, b_high, b_mid: modules of stage 3 to read, or None for a map that is not used.
    """

    project_low = False  # f_low goes on with its own channels

    def __init__(
        self, host: nn.Module | type[nn.Module], name: str, b_low: int | None, b_high: int | None,
        b_mid: int | None = None,
    ):
        super().__init__()
        stock, options = host, {}
        if isinstance(host, nn.Module):
            stock = type(host)
            options = {"norm_layer": host.norm_layer, "align_corners": host.align_corners}
        arguments, _ = HRNET_VARIANTS[name]
        net = stock(num_classes=1, ocr_width=0, **options, **arguments)
        last = max(b for b in (b_low, b_mid, b_high) if b is not None)
        # The names of the parts stay the stock ones, so that stock weights load by name.
        for part in ("conv1", "bn1", "conv2", "bn2", "relu", "layer1", "transition1", "stage2"):
            setattr(self, part, getattr(net, part))
        self.transition2 = net.transition2
        self.stage3 = net.stage3[: last + 1]
        channels = net.stage3[0].get_num_inchannels()
        self.offers = (LOW, HIGH) if b_mid is None else (LOW, MID, HIGH)
        self._read: dict[str, tuple[int, int]] = {}  # module and branch of each map
        for level, b, branch, stride in (
            (LOW, b_low, LOW_BRANCH, LOW_STRIDE), (MID, b_mid, MID_BRANCH, MID_STRIDE),
            (HIGH, b_high, HIGH_BRANCH, HIGH_STRIDE),
        ):
            if b is not None:
                self._read[level] = (b, branch)
                path = f"stage3.{b}[{branch}]"
                self.taps[level] = Tap(path, int(channels[branch]), Grid(stride))

    def forward(self, x: Tensor) -> tuple[Tensor | None, ...]:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        branches = [self.layer1(x)]  # stride 4
        branches = self.stage2(self._transition(self.transition1, branches))
        branches = self._transition(self.transition2, branches)
        maps: dict[str, Tensor] = {}
        for i, module in enumerate(self.stage3):
            branches = module(branches)
            maps |= {level: branches[branch] for level, (b, branch) in self._read.items() if b == i}
        return tuple(map(maps.get, self.offers))

    @staticmethod
    def _transition(layers: nn.ModuleList, branches: list[Tensor]) -> list[Tensor]:
        """One more branch: existing ones pass through, a new one starts from the last."""
        return [
            (branches[i] if layer is None else layer(branches[i]))
            if i < len(branches)
            else layer(branches[-1])
            for i, layer in enumerate(layers)
        ]

    def same_depth(self, host_backbone: nn.Module) -> bool:
        # A small HRNet has the layout of a larger one.
        return len(getattr(host_backbone, "layer1", ())) == len(self.layer1)


class HRNetEncoders(EncoderFamily):
    """HRNets of the host's own code base; b_low, b_mid and b_high index the modules of stage 3."""

    name = "hrnet"
    names = tuple(HRNET_VARIANTS)

    def blocks(self, encoder: str) -> tuple[int, int]:
        return (HRNET_VARIANTS[encoder][1],) * 2

    def mid_blocks(self, encoder: str) -> int:
        return HRNET_VARIANTS[encoder][1]

    def counts_like(self, info: HostInfo) -> bool:
        return info.family == "hrnet"

    def build(
        self, encoder: str, host: nn.Module, info: HostInfo, b_low: int | None, b_high: int | None,
        b_mid: int | None = None,
    ) -> HRNetBackbone:
        own = info.family == "hrnet"
        stock = host.get_submodule(info.backbone) if own else stock_hrnet(info.package)
        return HRNetBackbone(stock, encoder, b_low, b_high, b_mid)


HRNET = HRNetEncoders()
