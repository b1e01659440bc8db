"""HRNet networks for the engines: cut behind the stem, clicks and head rewritten."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter import hosts
from fdrn_adapter.engines import ocr
from fdrn_adapter.engines.click_stem import MAX_RADIUS, STRIDE, ClickStem, branches_of
from fdrn_adapter.engines.mask_blocks import MaskTermInBlocks
from fdrn_adapter.engines.parts import Parts
from fdrn_adapter.features.roi import cells

MIN_SIDE = 32  # pixels of a crop for the composed click stem


class HRNetParts(Parts):
    """A private copy of an HRNet network, cut behind the stem, where clicks enter (`ClickStem`)."""

    def __init__(
        self, net: nn.Module, info: hosts.HostInfo, size: tuple[int, int] | None,
        compose: bool = True,
    ):
        super().__init__(net, info, size, compose)
        host, backbone = self.host, self.backbone
        self.stem = self.head = None
        if compose and next(against_stem(host, info, size), None) is None:
            maps = _stock_maps(host, info)
            encoders = branches_of(host.get_submodule(info.click_encoder))
            self.stem = ClickStem(
                backbone, *encoders, maps.norm_radius, host.with_prev_mask, size
            )
        if ocr.fits(backbone):
            seen = self.network_size
            self.head = ocr.OCRHead(
                backbone, None if seen is None else tuple(cells(side, STRIDE) for side in seen)
            )
            backbone.aggregate_hrnet_features = lambda branches: branches
        backbone.compute_pre_stage_features = lambda x, features: x

    def for_fewer_bits(self) -> None:
        if self.stem is not None and self.stem.mask_term is not None:
            self.stem.mask_term = MaskTermInBlocks(self.stem.mask_term)

    def run_prepare(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> the image's part of the stem."""
        backbone = self.backbone
        x = self.as_network_sees(self.host.normalization(image))
        x = backbone.relu(backbone.bn1(backbone.conv1(x)))
        if self.stem is None:
            return x
        weight = self.stem.conv2_weight.to(x)
        return F.conv2d(x, weight, None, stride=2, padding=1) + self.stem.base

    def run_click(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        backbone, pre, coords = self.backbone, inputs["pre"], inputs.get("coords")
        if self.stem is not None:
            size = self.size
            x = F.relu(pre if coords is None else pre + self.stem.mask_term(coords))
        else:
            size = coords.shape[2:]
            x = backbone.conv2(pre + self.host.maps_transform(self.as_network_sees(coords)))
            x = backbone.relu(backbone.bn2(x))
        if self.head is None:
            logits, _, features = (*backbone(x, None), None)[:3]
        else:
            logits, _, features = self.head(backbone.compute_hrnet_feats(x, None))
        return self.outputs(logits, features, size)

    def click_inputs(self, pre: Tensor, image: Tensor, points: Tensor) -> dict[str, Tensor]:
        if self.stem is None:
            return super().click_inputs(pre, image, points)
        prev = self.prev_mask(image)
        inputs = {"pre": self.stem.add_disks(pre, points, prev)}
        return inputs if prev is None else inputs | {"coords": prev}


def _stock_maps(host: nn.Module, info: hosts.HostInfo) -> nn.Module | None:
    maps = getattr(host, info.click_maps, None)
    return getattr(maps, "host_maps", maps)


def against_stem(
    host: nn.Module, info: hosts.HostInfo, size: tuple[int, int] | None
) -> Iterator[str]:
    """Why a network's clicks cannot enter by `ClickStem`; nothing where they can."""
    maps, encoder = _stock_maps(host, info), getattr(host, "maps_transform", None)
    if size is None:
        yield "crops may have any size"
    elif min(size) < MIN_SIDE or any(side % STRIDE for side in size):
        yield f"crops of {size} are small, or no multiples of {STRIDE}"
    if info.pipeline == "s1":
        yield "the pipeline halves its click maps"
    if encoder is None or branches_of(encoder) is None:
        yield "the click encoder has another structure"
    if not getattr(maps, "use_disks", False) or getattr(maps, "norm_radius", 99) > MAX_RADIUS:
        yield "clicks are no small disks"
    if getattr(maps, "spatial_scale", 1) != 1 or getattr(maps, "cpu_mode", True):
        yield "click maps are drawn at another scale, or by the stock CPU code"
