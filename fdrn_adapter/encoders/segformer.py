"""SegFormer (Mix Transformer) as the backbone of the image encoder, cut after its third stage."""

import importlib
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter.encoders.backbone import Tap
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.grafts.injection import tokens_to_map
from fdrn_adapter.hosts.description import HIGH_STRIDE, LOW_STRIDE, HostInfo

MODULE = "model.modeling.segformer.mix_transformer"  # under the package of the code base
STAGES = (1, 2, 3)
# Stage 1 pools its keys by 8 on a map of stride 4: below this side nothing would be left.
MIN_SIDE = 32


@dataclass(frozen=True)
class Variant:
    """A stock SegFormer: its class, and the number of transformer blocks of stages 1 to 3."""

    class_name: str
    depths: tuple[int, int, int]


VARIANTS = {
    "segformer_b0": Variant("mit_b0", (2, 2, 2)),
    "segformer_b1": Variant("mit_b1", (2, 2, 2)),
}


def stock_class(name: str, backbone: nn.Module, info: HostInfo) -> type[nn.Module]:
    """The stock class of a variant, from the host's own code base.

    Args:
        name: a key of VARIANTS.
        backbone: the host's backbone; a SegFormer's own module has the other variants too.
        info: description of the host.

    Raises:
        ValueError: the code base has no SegFormer.
    """
    path = type(backbone).__module__ if info.family == "segformer" else f"{info.package}.{MODULE}"
    try:
        return getattr(importlib.import_module(path), VARIANTS[name].class_name)
    except ModuleNotFoundError as error:
        if not path.startswith(error.name or "?"):  # a library that SegFormer needs
            raise
        raise ValueError(
            f"encoder={name!r} is built from the host's own code base, and {info.package} has no "
            f"module {path}. Take a host of FocalClick (a ClickSEG checkout), or "
            "encoder='hrnet18', 'hrnet18s' or 'timm:<name>'."
        ) from error


class SegFormerBackbone(nn.Module):
    """A stock SegFormer up to its third stage (Sec. 4.1).

    f_low are the tokens after block b_low of stage 1 (stride 4), f_high those after block b_high of
    stage 3 (stride 16), as maps. After the last block of a stage the stage's LayerNorm follows, as
    in the stock network; tokens of an earlier block come as they are. Stage 4, its patch embedding
    and the embedding of the clicks never run here and are left out; the paper's figures for F1
    contain the two embeddings.

    Args:
        stock: class of the stock backbone.
        name: a key of VARIANTS.
        b_low, b_high: blocks of stage 1 and 3 to read, or None for a map that is not used.
    """

    project_low = True  # f_low goes on with 32 channels

    def __init__(
        self, stock: type[nn.Module], name: str, b_low: int | None, b_high: int | None
    ):
        super().__init__()
        net = stock()
        self.depths = VARIANTS[name].depths
        self.last_stage = 1 if b_high is None else 3
        # The names of the parts stay the stock ones, so that stock weights load by name.
        for i in STAGES[: self.last_stage]:
            setattr(self, f"patch_embed{i}", getattr(net, f"patch_embed{i}"))
            setattr(self, f"block{i}", getattr(net, f"block{i}"))
            setattr(self, f"norm{i}", getattr(net, f"norm{i}"))
        self.b_low, self.b_high = b_low, b_high
        last = b_low if b_high is None else b_high
        stage, norm = f"block{self.last_stage}", f"norm{self.last_stage}"
        if last + 1 < len(getattr(self, stage)):  # what comes after the deepest tap never runs
            setattr(self, stage, getattr(self, stage)[: last + 1])
            delattr(self, norm)
        self.low = self._tap(net, 1, b_low, LOW_STRIDE)
        self.high = self._tap(net, 3, b_high, HIGH_STRIDE)

    @staticmethod
    def _tap(net: nn.Module, stage: int, b: int | None, stride: int) -> Tap | None:
        if b is None:
            return None
        width = getattr(net, f"norm{stage}").normalized_shape[0]
        return Tap(f"block{stage}.{b}", int(width), Grid(stride))

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """x: (B, 3, H, W), normalised. Returns (f_low, f_high), None where not tapped."""
        rows, cols = x.shape[-2:]
        if min(rows, cols) < MIN_SIDE:
            pad = (0, max(0, MIN_SIDE - cols), 0, max(0, MIN_SIDE - rows))
            x = F.pad(x, pad, mode="replicate")
        low = high = None
        for i in STAGES[: self.last_stage]:
            wanted = {1: self.b_low, 3: self.b_high}.get(i)
            x, tapped = self._stage(i, x, wanted)
            low, high = (tapped if i == 1 else low), (tapped if i == 3 else high)
        return low, high

    def _stage(self, i: int, x: Tensor, wanted: int | None) -> tuple[Tensor, Tensor | None]:
        """One stage: its output, and the map after its block `wanted`."""
        tokens, rows, cols = getattr(self, f"patch_embed{i}")(x)
        tapped = None
        for b, block in enumerate(getattr(self, f"block{i}")):
            tokens = block(tokens, rows, cols)
            if b == self.depths[i - 1] - 1:
                tokens = getattr(self, f"norm{i}")(tokens)
            if b == wanted:
                tapped = tokens_to_map(tokens, rows, cols)
        return tokens_to_map(tokens, rows, cols), tapped

    def same_depth(self, host: nn.Module) -> bool:
        """Whether a host's SegFormer has as many blocks in stages 1 to 3."""
        return tuple(len(getattr(host, f"block{i}", ())) for i in STAGES) == self.depths
