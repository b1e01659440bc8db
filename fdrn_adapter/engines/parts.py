"""A private copy of a network, cut into what the image's crop decides and what a click does.

Every graph owns a copy of the caller's model with exact rewrites in it. A click is two graphs:
`run_prepare` runs when the crop of the image changes, `run_click` for every click.

    HRNet      prepare: image -> the stem before its activation; click: previous mask, the stem with
               the clicks' terms added (ClickStem), recycled features -> logits
    SegFormer  prepare: image, f_low -> map of stage 1; click: maps, that map, affinity -> logits
"""

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter import hosts
from fdrn_adapter.engines import refinement
from fdrn_adapter.engines.click_maps import draw_maps
from fdrn_adapter.features import current
from fdrn_adapter.features.intake import Aligned
from fdrn_adapter.grafts.click_encoder import DecoupledClickMaps
from fdrn_adapter.weights import copy_network


class Parts(nn.Module):
    """A private copy of a network, in two parts; a subclass for each family of hosts.

    Args:
        net: the copy (FDRN model or stock network), in eval mode.
        info: description of the host.
        size: rows and columns of the crop, None for any size.
        compose: whether clicks may come in another form than click maps, where a family has one.

    Attributes:
        early: names of the intakes that the image's part takes.
    """

    early: tuple[str, ...] = ()

    def __init__(
        self, net: nn.Module, info: hosts.HostInfo, size: tuple[int, int] | None,
        compose: bool = True,
    ):
        super().__init__()
        self.net, self.info, self.size = net, info, size
        self.project = projection_of(self.host)

    @property
    def host(self) -> nn.Module:
        """The stock network in the copy."""
        return self.net.host if hosts.is_fdrn(self.net) else self.net

    @property
    def backbone(self) -> nn.Module:
        return self.host.get_submodule(self.info.backbone)

    @property
    def network_size(self) -> tuple[int, int] | None:
        """Rows and columns that the first convolution sees, None for any."""
        return None if self.size is None else self.info.network_size(self.size)

    # -- in the graphs -------------------------------------------------------------------------

    def run_prepare(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1] -> what clicks go on with; early intakes are in the context."""
        raise NotImplementedError

    def run_click(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Logits at the crop's size, and for FocalClick the features that `refine` takes.

        Args:
            inputs: what `click_inputs` gave; intakes that are not early are in the context.
        """
        raise NotImplementedError

    def for_fewer_bits(self) -> None:
        """Put what is computed wrongly below float32 into another form."""

    def recycling(self, tensors: Mapping[str, Tensor]) -> AbstractContextManager:
        """Let the copy's injections take these, by the names of their intakes."""
        if not hosts.is_fdrn(self.net):
            return contextlib.nullcontext()
        return current.using(self.net, Aligned(tensors))

    def as_network_sees(self, x: Tensor) -> Tensor:
        """A map of the crop, halved where FocalClick's pipeline s1 halves it."""
        if self.info.pipeline != "s1":
            return x
        return F.interpolate(x, scale_factor=0.5, mode="bilinear", align_corners=True)

    def outputs(self, logits: Tensor, features: Tensor, size) -> tuple[Tensor, ...]:
        """What `run_click` gives, out of logits and features at the network's own stride."""
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=True)
        if not self.info.refines:
            return (logits,)
        return logits, features if self.project is None else self.project(features)

    # -- outside of them -----------------------------------------------------------------------

    def click_inputs(self, pre: Tensor, image: Tensor, points: Tensor) -> dict[str, Tensor]:
        """Inputs of the click's graph by name, beside the intakes.

        Args:
            pre: from `run_prepare`.
            image: (B, 3 or 4, H, W), as the model takes it.
            points: (B, 2N, 3), likewise.
        """
        prev, maps = self.prev_mask(image), self.draw(points, tuple(image.shape[2:]))
        return {"pre": pre, "coords": maps if prev is None else torch.cat([prev, maps], dim=1)}

    def prev_mask(self, image: Tensor) -> Tensor | None:
        """(B, 1, H, W) as the network sees it, None where it takes none."""
        if not self.host.with_prev_mask:
            return None
        prev = image[:, 3:]
        return (prev > 0.5).to(prev) if getattr(self.host, "binary_prev_mask", False) else prev

    def draw(self, points: Tensor, size: tuple[int, int]) -> Tensor:
        """Click maps (B, 2 or 6, H, W) of the network's own kind."""
        module = getattr(self.host, self.info.click_maps)
        if isinstance(module, DecoupledClickMaps):
            return module(points, points, lambda part: draw_maps(module.host_maps, part, size))
        return draw_maps(module, points, size)


def projection_of(host: nn.Module) -> nn.Conv2d | None:
    """What FocalClick's second stage starts with, if the host has one of the known structure."""
    refiner = getattr(host, "refiner", None)
    return refinement.projection(refiner) if refinement.fits(refiner) else None


def private_copy(model: nn.Module) -> nn.Module:
    """A copy to rewrite: in eval mode, without gradients, on the CPU."""
    return copy_network(model).cpu().eval().requires_grad_(False)
