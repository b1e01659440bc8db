"""SegFormer (Mix Transformer) as the backbone of the image encoder, cut after its third stage."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter.encoders.backbone import Backbone, EncoderFamily, Tap
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.grafts.injection import HIGH, LOW, MID, tokens_to_map
from fdrn_adapter.hosts.description import HIGH_STRIDE, LOW_STRIDE, MID_STRIDE, HostInfo
from fdrn_adapter.hosts.stock import stock_segformer

STAGES = (1, 2, 3)
_LEVELS = {1: (LOW, LOW_STRIDE), 2: (MID, MID_STRIDE), 3: (HIGH, HIGH_STRIDE)}
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


class SegFormerBackbone(Backbone):
    """A stock SegFormer up to its third stage (Sec. 4.1).

    f_low are the tokens after block b_low of stage 1 (stride 4), f_mid those after block b_mid of
    stage 2 (stride 8), f_high those after block b_high of stage 3 (stride 16), as maps. After the
    last block of a stage the stage's LayerNorm follows, as in the stock network; tokens of an
    earlier block come as they are. Stage 4, its patch embedding and the embedding of the clicks
    never run here and are left out; the paper's figures for F1 contain the two embeddings.

    Args:
        stock: class of the stock backbone.
        name: a key of VARIANTS.
        b_low, b_high, b_mid: blocks of stages 1, 3 and 2 to read, or None for a map that is not
            used.
    """

    def __init__(
        self, stock: type[nn.Module], name: str, b_low: int | None, b_high: int | None,
        b_mid: int | None = None,
    ):
        super().__init__()
        net = stock()
        self.depths = VARIANTS[name].depths
        wanted = {1: b_low, 2: b_mid, 3: b_high}
        self._read = {stage: b for stage, b in wanted.items() if b is not None}
        self.offers = (LOW, HIGH) if b_mid is None else (LOW, MID, HIGH)
        self.last_stage = max(self._read)
        # The names of the parts stay the stock ones, so that stock weights load by name.
        for i in STAGES[: self.last_stage]:
            setattr(self, f"patch_embed{i}", getattr(net, f"patch_embed{i}"))
            setattr(self, f"block{i}", getattr(net, f"block{i}"))
            setattr(self, f"norm{i}", getattr(net, f"norm{i}"))
        last = self._read[self.last_stage]
        stage, norm = f"block{self.last_stage}", f"norm{self.last_stage}"
        if last + 1 < len(getattr(self, stage)):  # what comes after the deepest tap never runs
            setattr(self, stage, getattr(self, stage)[: last + 1])
            delattr(self, norm)
        for i, b in self._read.items():
            level, stride = _LEVELS[i]
            width = int(getattr(net, f"norm{i}").normalized_shape[0])
            self.taps[level] = Tap(f"block{i}.{b}", width, Grid(stride))

    def forward(self, x: Tensor) -> tuple[Tensor | None, ...]:
        rows, cols = x.shape[-2:]
        if min(rows, cols) < MIN_SIDE:
            pad = (0, max(0, MIN_SIDE - cols), 0, max(0, MIN_SIDE - rows))
            x = F.pad(x, pad, mode="replicate")
        maps: dict[str, Tensor | None] = {}
        for i in STAGES[: self.last_stage]:
            x, maps[_LEVELS[i][0]] = self._stage(i, x, self._read.get(i))
        return tuple(map(maps.get, self.offers))

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

    def same_depth(self, host_backbone: nn.Module) -> bool:
        return tuple(len(getattr(host_backbone, f"block{i}", ())) for i in STAGES) == self.depths


class SegFormerEncoders(EncoderFamily):
    """SegFormers of the host's own code base; b_low, b_mid, b_high index stages 1, 2 and 3."""

    name = "segformer"
    names = tuple(VARIANTS)
    stages = ("stage 1 of ", "stage 3 of ")
    mid_stage = "stage 2 of "

    def blocks(self, encoder: str) -> tuple[int, int]:
        return VARIANTS[encoder].depths[::2]

    def mid_blocks(self, encoder: str) -> int:
        return VARIANTS[encoder].depths[1]

    def build(
        self, encoder: str, host: nn.Module, info: HostInfo, b_low: int | None, b_high: int | None,
        b_mid: int | None = None,
    ) -> SegFormerBackbone:
        own = host.get_submodule(info.backbone) if info.family == "segformer" else None
        try:
            stock = stock_segformer(info.package, VARIANTS[encoder].class_name, own)
        except LookupError as error:
            raise ValueError(
                f"encoder={encoder!r} is built from the host's own code base, and {error}. Take a "
                "host of FocalClick (a ClickSEG checkout), or encoder='hrnet18', 'hrnet18s' or "
                "'timm:<name>'."
            ) from error
        return SegFormerBackbone(stock, encoder, b_low, b_high, b_mid)


SEGFORMER = SegFormerEncoders()
