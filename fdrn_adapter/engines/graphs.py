"""Plain networks for the engines: tensors in, tensors out, no state, no hooks on the outside.

Every graph owns a private copy of the caller's model with exact rewrites in it. A click is two
graphs: `Prepare` runs when the crop of the image changes, `Click` for every click.

    HRNet      prepare: image -> the stem before its activation; click: previous mask, the stem with
               the clicks' terms added (ClickStem), recycled features -> logits
    SegFormer  prepare: image, f_low -> map of stage 1; click: maps, that map, affinity -> logits
    others     no prepare; the host as it stands, with the click maps drawn outside
"""

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter import hosts
from fdrn_adapter.engines import ocr, refinement
from fdrn_adapter.engines.click_stem import MAX_RADIUS, STRIDE, ClickStem, branches_of
from fdrn_adapter.engines.rewrites import SeparableInterpolation, fold_batch_norms
from fdrn_adapter.engines.segformer import SegFormerHead, rewrite_ffns
from fdrn_adapter.grafts.click_encoder import DecoupledClickMaps
from fdrn_adapter.grafts.injection import Call, current_call, tokens_to_map
from fdrn_adapter.weights import copy_network

MIN_SIDE = 32  # pixels of a crop for the composed click stem


class GivenFeatures:
    """Stands in for `Recycling` inside a graph: what was aligned outside."""

    def __init__(self, low: Tensor | None, affinity: Tensor | None):
        self._low, self._affinity = low, affinity

    def low(self, *where) -> Tensor:
        return self._low

    def affinity(self, *where) -> Tensor:
        return self._affinity


class GivenMaps(nn.Module):
    """Stands in for the host's `dist_maps`: hands on maps that come in place of points."""

    def forward(self, x: Tensor, maps: Tensor) -> Tensor:
        return maps


@contextlib.contextmanager
def recycled(low: Tensor | None, affinity: Tensor | None) -> Iterator[None]:
    """Let the injections of a private copy use these maps."""
    token = current_call.set(Call(GivenFeatures(low, affinity), (0, 0)))
    try:
        yield
    finally:
        current_call.reset(token)


class HRNetParts(nn.Module):
    """A private copy of an HRNet network, cut behind the stem.

    Args:
        net: the copy (FDRN model or stock network).
        info: description of the host.
        size: rows and columns of the crop, None for any size.
        compose: draw clicks outside, and compose what follows them (`ClickStem`) where that can be.
    """

    def __init__(
        self, net: nn.Module, info: hosts.HostInfo, size: tuple[int, int] | None, compose: bool
    ):
        super().__init__()
        self.net, self.info, self.size = net, info, size
        host, _ = hosts.host_of(net)
        self.host = [host]  # in a list: its parameters are registered once, under `net`
        self.backbone = [host.get_submodule(info.backbone)]
        backbone = self.backbone[0]
        self.stem = self._stem(host, info, size) if compose else None
        network_size = None if size is None else info.network_size(size)
        cells = None if size is None else tuple(-(-side // STRIDE) for side in network_size)
        self.head = ocr.OCRHead(backbone, cells) if ocr.fits(backbone) else None
        if self.head is not None:
            backbone.aggregate_hrnet_features = lambda branches: branches
        self.project = projection_of(host)
        backbone.compute_pre_stage_features = lambda x, features: x

    @staticmethod
    def _stem(host, info, size) -> ClickStem | None:
        maps = getattr(host, info.click_maps, None)
        maps = getattr(maps, "host_maps", maps)
        radius = getattr(maps, "norm_radius", MAX_RADIUS + 1)
        encoder = getattr(host, "maps_transform", None)
        encoder = branches_of(encoder) if encoder is not None else None
        if (
            size is None or encoder is None or info.pipeline == "s1" or radius > MAX_RADIUS
            or not getattr(maps, "use_disks", False) or getattr(maps, "spatial_scale", 1) != 1
            or getattr(maps, "cpu_mode", True) or min(size) < MIN_SIDE
            or any(side % STRIDE for side in size)
        ):
            return None
        backbone = host.get_submodule(info.backbone)
        return ClickStem(backbone, *encoder, radius, host.with_prev_mask, size)

    def run_prepare(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> the image's part of the stem."""
        host, backbone = self.host[0], self.backbone[0]
        x = host.normalization(image)
        if self.info.pipeline == "s1":
            x = F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=True)
        x = backbone.relu(backbone.bn1(backbone.conv1(x)))
        if self.stem is None:
            return x
        weight = self.stem.conv2_weight.to(x)
        return F.conv2d(x, weight, None, stride=2, padding=1) + self.stem.base

    def run_click(self, pre: Tensor, coords: Tensor | None) -> tuple[Tensor, ...]:
        """Logits at the crop's size, and for FocalClick the features that `refine` takes."""
        host, backbone = self.host[0], self.backbone[0]
        if self.stem is not None:
            size = self.size
            x = F.relu(pre if coords is None else pre + self.stem.mask_term(coords))
        else:
            size = coords.shape[2:]
            if self.info.pipeline == "s1":
                coords = F.interpolate(coords, scale_factor=0.5, mode="bilinear",
                                       align_corners=True)
            x = backbone.conv2(pre + host.maps_transform(coords))
            x = backbone.relu(backbone.bn2(x))
        if self.head is None:
            outputs = backbone(x, None)
        else:
            logits, _, features = self.head(backbone.compute_hrnet_feats(x, None))
            outputs = (logits, None, features)
        features = outputs[2] if self.info.refines else None
        if self.project is not None:
            features = self.project(features)
        return _finish(outputs[0], features, size)


class SegFormerParts(nn.Module):
    """A private copy of a SegFormer network, cut behind stage 1, where clicks come in."""

    def __init__(self, net: nn.Module, info: hosts.HostInfo, size: tuple[int, int] | None):
        super().__init__()
        self.net, self.info, self.size, self.stem = net, info, size, None
        host, _ = hosts.host_of(net)
        self.host, self.backbone = [host], [host.get_submodule(info.backbone)]
        rewrite_ffns(self.backbone[0])
        maps = getattr(host, info.click_maps)
        # Click maps come one by one where the embedding takes them so.
        self.click_maps = maps if isinstance(maps, DecoupledClickMaps) else None
        extractor = host.feature_extractor
        self.project = projection_of(host)
        if SegFormerHead.fits(extractor.decode_head):
            cells = None if size is None else tuple(
                -(-side // STRIDE) for side in info.network_size(size)
            )
            extractor.decode_head = SegFormerHead(extractor.decode_head, cells, self.project)
            self.project = None  # the head's own

    def run_prepare(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) -> map of stage 1, texture integrated."""
        return self._stage(1, self._shrunk(self.host[0].normalization(image)))

    def _shrunk(self, x: Tensor) -> Tensor:
        if self.info.pipeline != "s1":
            return x
        return F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=True)

    def run_click(
        self, pre: Tensor, coords: Tensor, current: Tensor | None = None,
        history: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Logits at the crop's size, and the features that `refine` takes.

        Args:
            pre: from `run_prepare`.
            coords: previous mask and click maps; the former alone where the maps are the next two.
            current, history: (B, 2, H, W).
        """
        host, backbone = self.host[0], self.backbone[0]
        size, embedding = coords.shape[2:], backbone.patch_embed_side1
        if current is None:
            clicks = tokens_to_map(*embedding(self._shrunk(coords)))
        else:
            maps = (coords, self.click_maps.union(current, history), current, history)
            clicks = embedding.encode(*map(self._shrunk, maps))
        stages, x = [pre], pre + clicks
        for i in (2, 3, 4):
            x = self._stage(i, x)
            stages.append(x)
        logits, features = host.feature_extractor.decode_head(stages)
        if self.project is not None:
            features = self.project(features)
        return _finish(logits, features if self.info.refines else None, size)

    def _stage(self, i: int, x: Tensor) -> Tensor:
        backbone = self.backbone[0]
        tokens, rows, cols = getattr(backbone, f"patch_embed{i}")(x)
        for block in getattr(backbone, f"block{i}"):
            tokens = block(tokens, rows, cols)
        return tokens_to_map(getattr(backbone, f"norm{i}")(tokens), rows, cols)


def projection_of(host: nn.Module) -> nn.Conv2d | None:
    """What FocalClick's second stage starts with, if the host has one of the known structure."""
    refiner = getattr(host, "refiner", None)
    return refinement.projection(refiner) if refinement.fits(refiner) else None


def _finish(logits: Tensor, features: Tensor | None, size) -> tuple[Tensor, ...]:
    logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=True)
    return (logits,) if features is None else (logits, features)


class Prepare(nn.Module):
    """What depends on the image's crop (and f_low) but on no click.

    Inputs: image (B, 3, H, W) in [0, 1], for SegFormer FDRNs also f_low aligned.
    """

    def __init__(self, parts: nn.Module):
        super().__init__()
        self.parts = parts

    def forward(self, image: Tensor, low: Tensor | None = None) -> Tensor:
        with recycled(low, None):
            return self.parts.run_prepare(image)


class Click(nn.Module):
    """A click: inputs named in `names`, outputs logits (B, 1, H, W) and maybe features."""

    def __init__(self, parts: nn.Module, names: tuple[str, ...]):
        super().__init__()
        self.parts, self.names = parts, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.names, tensors, strict=True))
        mode = SeparableInterpolation() if self.parts.size is not None \
            else contextlib.nullcontext()
        with recycled(given.get("low"), given.get("affinity")), mode:
            maps = [given[name] for name in ("current", "history") if name in given]
            return self.parts.run_click(given["pre"], given.get("coords"), *maps)


class Encode(nn.Module):
    """F1 without its cap of the size: (B, 3, H, W) in [0, 1] -> the maps named in `names`."""

    def __init__(self, encoder: nn.Module):
        super().__init__()
        rewrite_ffns(encoder)
        self.encoder = encoder
        self.names = tuple(encoder.grids)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.encoder.maps(image)
        return tuple(maps[name] for name in self.names)


class Refine(nn.Module):
    """FocalClick's second stage behind its two ROI Aligns.

    Inputs: image crop (B, 3, S, S), click maps (B, 2, S, S), what `Click` gives as features, and
    logits, both aligned.
    """

    def __init__(self, host: nn.Module):
        super().__init__()
        refiner = host.refiner
        self.rewritten = refinement.fits(refiner)
        self.refiner = refinement.Refiner(refiner) if self.rewritten else refiner

    def forward(self, image: Tensor, maps: Tensor, features: Tensor, logits: Tensor) -> Tensor:
        refined = self.refiner(image, maps, features, logits)
        return refined if self.rewritten else refined[0]


def private_copy(model: nn.Module) -> nn.Module:
    """A copy to rewrite: in eval mode, without gradients."""
    return copy_network(model).eval().requires_grad_(False)


def build_parts(
    model: nn.Module, info: hosts.HostInfo, size: tuple[int, int] | None, compose: bool = True
) -> nn.Module | None:
    """A rewritten private copy of a network's F2, None where it has an unknown structure.

    Args:
        model: FDRN model or stock network, which stays as it is.
        info: description of the host.
        size, compose: see `HRNetParts`.
    """
    copy = private_copy(model)
    host, _ = hosts.host_of(copy)
    if host is not copy:
        copy.image_encoder = None
    family = hosts.family_of(info)
    if info.missing_click_encoder or family.missing(host, family.engine_parts):
        return None
    if family.name == "hrnet":
        return HRNetParts(copy, info, size, compose)
    return SegFormerParts(copy, info, size) if family.name == "segformer" else None


def fold_parts(parts: nn.Module, run) -> None:
    """Fold the batch norms of a private copy; `run` makes one pass through all of it."""
    fold_batch_norms(parts, run)
