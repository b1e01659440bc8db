"""An image encoder of our own, which learned MobileSAM's embeddings (distillation).

EfficientNet-Lite0 (ImageNet weights to start with) and a small pyramid that brings its maps at
strides 8, 16 and 32 to one of 96 channels at stride 8: the first 96 principal components of
MobileSAM's embedding. 3.7 million parameters; the weights come with the package.
"""

import importlib.resources

from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter.encoders.backbone import EMBEDDING, Backbone, EncoderFamily, Tap
from fdrn_adapter.encoders.sam_space import CHANNELS
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.hosts.description import HostInfo
from fdrn_adapter.weight_files import read_weights

NAME = "distilled_lite0"
WEIGHTS = "distilled_lite0.pth"  # in model_zoo/
WIDTH = 128
SIDE, STRIDE, MULTIPLE = 512, 8, 32
_TIMM_NAME = "tf_efficientnet_lite0"


def _block(channels_in: int, channels: int, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )


class Pyramid(nn.Module):
    """Maps at strides 8, 16 and 32 to one at stride 8.

    Args:
        channels: of the three maps.
        out: channels of the result.
        width: channels in between.
    """

    def __init__(self, channels: list[int], out: int = CHANNELS, width: int = WIDTH):
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1, bias=False) for c in channels)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in channels)
        self.context = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels[-1], width, 1))
        self.deep = nn.Sequential(_block(width, width), _block(width, width))
        self.middle = nn.Sequential(_block(width, width), _block(width, width))
        self.fine = nn.Sequential(
            _block(width, width, 5, groups=width), _block(width, width, 1),
            _block(width, width, 3, groups=width), _block(width, width, 1),
        )
        self.head = nn.Conv2d(width, out, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        fine, middle, deep = (
            norm(lateral(m))
            for lateral, norm, m in zip(self.lateral, self.norms, maps, strict=True)
        )
        y = self.deep(F.relu(deep + self.context(maps[-1])))
        y = self.middle(F.relu(middle + _doubled(y)))
        y = F.relu(fine + _doubled(y))
        return self.head(y + self.fine(y))


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class LitePyramid(Backbone):
    """See the top of this file. The image is padded to a multiple of 32 by its border pixels."""

    offers = (EMBEDDING,)
    mean = std = (0.5, 0.5, 0.5)
    side = SIDE

    def __init__(self) -> None:
        super().__init__()
        try:
            import timm  # an optional package, and slow to import
        except ImportError as error:
            raise ValueError(
                f"encoder={NAME!r} needs timm: pip install fdrn_adapter[timm]"
            ) from error
        self.net = timm.create_model(
            _TIMM_NAME, features_only=True, pretrained=False, out_indices=(2, 3, 4)
        )
        self.neck = Pyramid(self.net.feature_info.channels())
        self.taps[EMBEDDING] = Tap("neck", CHANNELS, Grid(STRIDE))

    def forward(self, x: Tensor) -> tuple[Tensor]:
        rows, cols = x.shape[-2:]
        x = F.pad(x, (0, -cols % MULTIPLE, 0, -rows % MULTIPLE), mode="replicate")
        embedding = self.neck(self.net(x))
        # Of positive numbers: ONNX divides negative ones towards zero.
        rows, cols = (rows + STRIDE - 1) // STRIDE, (cols + STRIDE - 1) // STRIDE
        return (embedding[..., :rows, :cols],)

    def start(self) -> str:
        where = importlib.resources.files("fdrn_adapter.model_zoo") / WEIGHTS
        with importlib.resources.as_file(where) as path:
            weights = read_weights(path)
        self.load_state_dict({key: value.to(self.neck.head.weight.dtype) if
                              value.is_floating_point() else value
                              for key, value in weights.items()})
        return "distilled from MobileSAM"


class LitePyramidFamily(EncoderFamily):
    """The row of `distilled_lite0`."""

    name = NAME
    names = (NAME,)
    embeds = True

    def build(
        self, encoder: str, host: nn.Module, info: HostInfo, b_low: int | None, b_high: int | None
    ) -> Backbone:
        return LitePyramid()


LITE_PYRAMID = LitePyramidFamily()
