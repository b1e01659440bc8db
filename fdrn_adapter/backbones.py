"""Backbones of the image encoder: a network cut after its third stage, read at two strides.

Every backbone takes a normalised image and returns (f_low, f_high); `low` and `high` say where the
two maps come from, how many channels they have and where their cells lie on the image.
"""

import copy
import importlib

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter import segformer
from fdrn_adapter.hosts import HIGH_BRANCH, HIGH_STRIDE, LOW_BRANCH, LOW_STRIDE, HostInfo
from fdrn_adapter.roi import Grid
from fdrn_adapter.segformer import SegFormerBackbone
from fdrn_adapter.taps import Tap

# HRNet encoders by name: the arguments of the stock class and the modules of its third stage.
HRNET_VARIANTS = {
    "hrnet18": ({"width": 18, "small": False}, 4),
    "hrnet18s": ({"width": 18, "small": True}, 3),
}
HRNET_MODULE = "model.modeling.hrnet_ocr"  # under the package of the code base
TIMM_PREFIX = "timm:"
DEFAULT_ENCODERS = {"hrnet": "hrnet18", "segformer": "segformer_b0"}  # by the host's family


def encoder_names() -> str:
    """The allowed values of `encoder=`, for messages."""
    names = (*HRNET_VARIANTS, *segformer.VARIANTS)
    return ", ".join(map(repr, names)) + ", or 'timm:<name>' for any timm " \
        "backbone with feature maps at stride 4 and 16 (pip install fdrn_adapter[timm])"


class HRNetBackbone(nn.Module):
    """A stock HRNet up to the last tapped module of stage 3.

    f_low is branch 0 (stride 4) of module b_low, f_high branch 2 (stride 16) of module b_high, both
    after the module's fuse layers (Sec. 4.1). Later modules, stage 4 and the heads are cut off.

    Args:
        host: the host's own backbone, whose class is instantiated with its norm, or the class.
        name: a key of HRNET_VARIANTS.
        b_low, b_high: modules of stage 3 to read, or None for a map that is not used.
    """

    project_low = False  # f_low goes on with its own channels

    def __init__(
        self, host: nn.Module | type[nn.Module], name: str, b_low: int | None, b_high: int | None
    ):
        super().__init__()
        stock, options = host, {}
        if isinstance(host, nn.Module):
            stock = type(host)
            options = {"norm_layer": host.norm_layer, "align_corners": host.align_corners}
        arguments, _ = HRNET_VARIANTS[name]
        net = stock(num_classes=1, ocr_width=0, **options, **arguments)
        last = max(b for b in (b_low, b_high) if b is not None)
        # The names of the parts stay the stock ones, so that stock weights load by name.
        for part in ("conv1", "bn1", "conv2", "bn2", "relu", "layer1", "transition1", "stage2"):
            setattr(self, part, getattr(net, part))
        self.transition2 = net.transition2
        self.stage3 = net.stage3[: last + 1]
        self.b_low, self.b_high = b_low, b_high
        channels = net.stage3[0].get_num_inchannels()
        self.low = self._tap(b_low, LOW_BRANCH, channels, LOW_STRIDE)
        self.high = self._tap(b_high, HIGH_BRANCH, channels, HIGH_STRIDE)

    @staticmethod
    def _tap(b: int | None, branch: int, channels: list[int], stride: int) -> Tap | None:
        if b is None:
            return None
        return Tap(f"stage3.{b}[{branch}]", int(channels[branch]), Grid(stride))

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """x: (B, 3, H, W), normalised. Returns (f_low, f_high), None where not tapped."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        branches = [self.layer1(x)]  # stride 4
        branches = self.stage2(self._transition(self.transition1, branches))
        branches = self._transition(self.transition2, branches)
        low = high = None
        for b, module in enumerate(self.stage3):
            branches = module(branches)
            if b == self.b_low:
                low = branches[LOW_BRANCH]
            if b == self.b_high:
                high = branches[HIGH_BRANCH]
        return low, high

    @staticmethod
    def _transition(layers: nn.ModuleList, branches: list[Tensor]) -> list[Tensor]:
        """One more branch: existing ones pass through, a new one starts from the last."""
        return [
            (branches[i] if layer is None else layer(branches[i]))
            if i < len(branches)
            else layer(branches[-1])
            for i, layer in enumerate(layers)
        ]

    def same_depth(self, host: nn.Module) -> bool:
        """Whether a host's HRNet has as many blocks; a small one has the layout of a larger one."""
        return len(getattr(host, "layer1", ())) == len(self.layer1)


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


def _geometry_only(module: nn.Module) -> nn.Module:
    """A copy in which only the geometry of the layers (kernel, stride, padding) is left.

    Kernels become averages and norms vanish, maximum pooling becomes average pooling: the response
    to a pixel no longer depends on weights, and on a small positive input no activation saturates.
    """
    probe = copy.deepcopy(module).float().eval()
    for parent in list(probe.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, nn.Conv2d):
                part.weight.data.fill_(1.0 / part.weight[0].numel())
                if part.bias is not None:
                    part.bias.data.zero_()
            elif isinstance(part, nn.BatchNorm2d):
                part.reset_running_stats()
                part.reset_parameters()
            elif isinstance(part, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(part.kernel_size, part.stride, part.padding))
            elif _is_norm(part):
                setattr(parent, name, nn.Identity())
    return probe


def _is_norm(part: nn.Module) -> bool:
    """A norm of any library, but not a block that merely has Norm in its name."""
    return "Norm" in type(part).__name__ and not any(
        isinstance(inner, nn.Conv2d | nn.Linear) for inner in part.modules()
    )


def measure_offsets(
    backbone: nn.Module, positions: dict[int, int], size: int = 256
) -> dict[int, tuple[float, float]]:
    """Where cell 0 of each map lies on the image, in pixels, by the response to impulses.

    The sensitivity of a cell to every input pixel has its centroid on the pixel the cell stands
    on. Global parts (attention, squeeze-and-excitation) pull the centroid towards the centre of the
    image in proportion to the distance, so that a line fitted over several cells tells both apart.

    Args:
        backbone: a backbone with `maps`.
        positions: stride -> index in `backbone.maps(x)`.
        size: side of the square probe image in pixels.

    Returns:
        stride -> (row, col) offset in pixels, to a quarter of a pixel.

    Raises:
        ValueError: the maps have another number of cells than the stride says.
    """
    # Also where somebody builds or loads a model under no_grad or inference_mode.
    with torch.inference_mode(False), torch.enable_grad():
        return _measured(_geometry_only(backbone), positions, size)


def _measured(
    probe: nn.Module, positions: dict[int, int], size: int
) -> dict[int, tuple[float, float]]:
    """`measure_offsets` on a copy of the backbone."""
    x = torch.full((1, 3, size, size), 1e-3, requires_grad=True)
    try:
        maps = probe.maps(x)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"this backbone does not take images of any size ({error}); choose another encoder."
        ) from error
    pixels = torch.arange(size, dtype=torch.float64)
    middle = (size - 1) / 2
    offsets = {}
    for stride, position in positions.items():
        count = maps[position].shape[-1]
        wanted = -(-size // stride)
        if count != wanted:
            raise ValueError(
                f"the map at stride {stride} has {count} cells for {size} pixels, expected "
                f"{wanted}; this backbone cannot be tapped."
            )
        cells = [int(count * share) for share in (0.375, 0.5, 0.625)]
        centroids = []
        for cell in cells:
            target = maps[position][..., cell, cell].sum()
            (grad,) = torch.autograd.grad(target, x, retain_graph=True)
            weight = grad[0].double().abs().sum(0)  # (size, size)
            rows, cols = weight.sum(1) @ pixels, weight.sum(0) @ pixels
            centroids.append(torch.stack([rows, cols]) / weight.sum())
        cell_px = stride * torch.tensor(cells, dtype=torch.float64)
        line = torch.linalg.lstsq(
            torch.stack([cell_px, torch.ones_like(cell_px)], dim=1), torch.stack(centroids)
        ).solution  # (2, 2): slope and intercept for rows and columns
        slope, intercept = line
        offset = (intercept - (1 - slope) * middle) / slope
        offsets[stride] = tuple(round(4 * v) / 4 for v in offset.tolist())
    return offsets


def build_backbone(
    name: str, host: nn.Module, info: HostInfo, b_low: int | None, b_high: int | None
) -> nn.Module:
    """The backbone called `name`, cut after its taps.

    Args:
        name: see `encoder_names`.
        host: the stock network, whose code base provides the class.
        info: description of the host.
        b_low, b_high: block indices, None for a map that is not used.

    Raises:
        ValueError: unknown name (the message lists them), or the host's code base has no such
            network.
    """
    backbone = host.get_submodule(info.backbone)
    if name in HRNET_VARIANTS:
        stock = backbone
        if info.family != "hrnet":
            stock = importlib.import_module(f"{info.package}.{HRNET_MODULE}").HighResolutionNet
        return HRNetBackbone(stock, name, b_low, b_high)
    if name in segformer.VARIANTS:
        stock = segformer.stock_class(name, backbone, info)
        return SegFormerBackbone(stock, name, b_low, b_high)
    if name.startswith(TIMM_PREFIX):
        return TimmBackbone(name.removeprefix(TIMM_PREFIX), b_low is not None, b_high is not None)
    raise ValueError(f"Unknown encoder {name!r}. Allowed: {encoder_names()}.")


def num_blocks(name: str) -> tuple[int, int]:
    """How many blocks b_low and b_high can index in an encoder."""
    if name in HRNET_VARIANTS:
        return (HRNET_VARIANTS[name][1],) * 2  # both in stage 3
    if name in segformer.VARIANTS:
        return segformer.VARIANTS[name].depths[::2]  # in stages 1 and 3
    if name.startswith(TIMM_PREFIX):
        return 1, 1  # one map per stride
    raise ValueError(f"Unknown encoder {name!r}. Allowed: {encoder_names()}.")
