"""Plain networks for the engines: named tensors in, tensors out, no state, no hooks on the outside.

    Prepare   what of a click depends on the crop of the image alone   (see `parts`)
    Click     the rest of it
    Encode    F1
    Refine    FocalClick's second stage
"""

import contextlib

from torch import Tensor, nn

from fdrn_adapter import hosts
from fdrn_adapter.engines import refinement
from fdrn_adapter.engines.hrnet import HRNetParts
from fdrn_adapter.engines.parts import Parts, private_copy, projection_of
from fdrn_adapter.engines.rewrites import SeparableInterpolation, fold_batch_norms
from fdrn_adapter.engines.segformer import SegFormerParts, rewrite_ffns

__all__ = [
    "Click", "Encode", "Prepare", "Refine", "build_parts", "fold_parts", "private_copy",
    "projection_of",
]

PARTS: dict[str, type[Parts]] = {"hrnet": HRNetParts, "segformer": SegFormerParts}


class Prepare(nn.Module):
    """What depends on the image's crop (and on early intakes) but on no click.

    Args:
        parts: see `build_parts`.
        names: of the inputs: "image", (B, 3, H, W) in [0, 1], and intakes.
    """

    def __init__(self, parts: Parts, names: tuple[str, ...]):
        super().__init__()
        self.parts, self.names = parts, names

    def forward(self, *tensors: Tensor) -> Tensor:
        inputs = dict(zip(self.names, tensors, strict=True))
        with self.parts.recycling(inputs):
            return self.parts.run_prepare(inputs["image"])


class Click(nn.Module):
    """A click: logits (B, 1, H, W), and for FocalClick features.

    Args:
        parts: see `build_parts`.
        names: of the inputs: those of `Parts.click_inputs`, and intakes.
    """

    def __init__(self, parts: Parts, names: tuple[str, ...]):
        super().__init__()
        self.parts, self.names = parts, names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        inputs = dict(zip(self.names, tensors, strict=True))
        fixed = self.parts.size is not None
        with self.parts.recycling(inputs), \
                SeparableInterpolation() if fixed else contextlib.nullcontext():
            return self.parts.run_click(inputs)


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


def misfit(model: nn.Module) -> str:
    """Why a network's F2 cannot be cut into graphs, empty if it can."""
    host, info = hosts.host_of(model)
    missing = hosts.family_of(info).missing(host, hosts.family_of(info).engine_parts)
    if info.missing_click_encoder:
        missing.append(info.missing_click_encoder)
    if not missing and info.family in PARTS:
        return ""
    return (
        f"{info.name} has a structure that engines and export do not know (looked for parts of "
        f"{', '.join(PARTS)}; missing: {', '.join(missing) or 'all'}); use engine='eager'."
    )


def build_parts(
    model: nn.Module, info: hosts.HostInfo, size: tuple[int, int] | None, compose: bool = True
) -> Parts:
    """A rewritten private copy of a network's F2.

    Args:
        model: FDRN model or stock network, which stays as it is.
        info: description of the host.
        size, compose: see `Parts`.

    Raises:
        UnsupportedHostError: the network has another structure; the message says which.
    """
    problem = misfit(model)
    if problem:
        raise hosts.UnsupportedHostError(problem)
    copy = private_copy(model)
    if hosts.is_fdrn(copy):
        copy.image_encoder = None
    return PARTS[info.family](copy, info, size, compose)


def fold_parts(parts: nn.Module, run) -> None:
    """Fold the batch norms of a private copy; `run` makes one pass through all of it."""
    fold_batch_norms(parts, run)
