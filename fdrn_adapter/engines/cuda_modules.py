"""The parts of a network on a device: tensors in, tensors out, all of it in one CUDA graph each."""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from fdrn_adapter import hosts
from fdrn_adapter.engines import graphs
from fdrn_adapter.engines.cuda_graphs import Replayed
from fdrn_adapter.engines.device_maps import draw_on_device
from fdrn_adapter.engines.parts import Parts
from fdrn_adapter.engines.refinement import on_focus_crop
from fdrn_adapter.grafts.click_encoder import DecoupledClickMaps


class Normalization:
    """Stands in for a host's `normalization`: its numbers on the device, the result in a dtype."""

    def __init__(self, stock: Any, device: torch.device, dtype: torch.dtype):
        self.mean, self.std = (
            torch.as_tensor(value, dtype=torch.float32).to(device).view(1, -1, 1, 1)
            for value in (stock.mean, stock.std)
        )
        self.dtype = dtype

    def __call__(self, image: Tensor) -> Tensor:
        return ((image - self.mean) / self.std).to(self.dtype)


class EncodeOnDevice(nn.Module):
    """F1 on the device, image (B, 3, H, W) float32 -> the maps in `names`, float32.

    Args:
        encoder: a private copy.
        example: an image.
    """

    def __init__(
        self, encoder: nn.Module, device: torch.device, dtype: torch.dtype, example: Tensor
    ):
        super().__init__()
        graph = graphs.Encode(encoder).to(device).eval()
        self.names = graph.names
        normalization = Normalization(encoder, device, dtype)
        graphs.fold_parts(graph, lambda: graph(example.to(device)))
        self.encoder = encoder.to(dtype)
        self.normalization = normalization

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.encoder.maps_of(self.encoder.backbone(self.normalization(image)))
        return tuple(maps[name].float() for name in self.names)


class Clicking(nn.Module):
    """Crop, clicks and what injections take -> logits (B, 1, H, W) float32, and maybe features.

    Args:
        parts: from `graphs.build_parts` without a size, on the device.
        dtype: of the arithmetic.
    """

    def __init__(self, parts: Parts, dtype: torch.dtype):
        super().__init__()
        self.parts, self.dtype = parts, dtype
        self.names = [intake.name for intake in getattr(parts.net, "intakes", ())]

    def forward(self, image: Tensor, points: Tensor, *taken: Tensor) -> tuple[Tensor, ...]:
        parts, size = self.parts, tuple(image.shape[2:])
        prev = parts.prev_mask(image)
        with parts.recycling(dict(zip(self.names, taken, strict=True))):
            pre = parts.run_prepare(image[:, :3])
            module = getattr(parts.host, parts.info.click_maps)
            if isinstance(module, DecoupledClickMaps):
                stock = module.host_maps
                maps = module(points, points, lambda part: draw_on_device(stock, part, size))
            else:
                maps = draw_on_device(module, points, size)
            coords = maps if prev is None else torch.cat([prev, maps], dim=1)
            logits, *rest = parts.run_click({"pre": pre, "coords": coords.to(self.dtype)})
        return (logits.float(), *rest)


class ClickOnDevice:
    """F2 (or a stock network) on the device, for crops of any size.

    Args:
        model: the caller's.
        info: description of the host.
        dtype: of the arithmetic.
        precision: "exact" or "fast", for the layout.

    Raises:
        UnsupportedHostError: a network of unknown structure.
    """

    def __init__(
        self, model: nn.Module, info, device: torch.device, dtype: torch.dtype, precision: str
    ):
        self.device, self.dtype, self.precision = device, dtype, precision
        self.parts = graphs.build_parts(model, info, None, compose=False).to(device)
        self._replayed: Replayed | None = None

    def fold(self, *inputs: Tensor) -> None:
        """Fold batch norms, by one pass in float32, and take on the dtype."""
        host = self.parts.host
        stock = host.normalization
        host.normalization = Normalization(stock, self.device, torch.float32)
        module = Clicking(self.parts, torch.float32)
        given = [t.to(self.device) for t in inputs]
        graphs.fold_parts(self.parts, lambda: module(*given))
        self.parts.to(self.dtype)
        host.normalization = Normalization(stock, self.device, self.dtype)
        module.dtype = self.dtype
        self._replayed = Replayed(module.eval(), self.device, self.precision)

    def run(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return self._replayed(*inputs)


class RefineOnDevice(nn.Module):
    """FocalClick's second stage on the device, its two ROI Aligns included.

    Args:
        model: a private copy.
    """

    def __init__(self, model: nn.Module, device: torch.device, dtype: torch.dtype):
        super().__init__()
        host, _ = hosts.host_of(model)
        projection = graphs.projection_of(host)
        self.channels = None if projection is None else projection.in_channels
        self.stock_maps = host.dist_maps_refine
        self.refine = graphs.Refine(host).to(device).eval()
        self.projection = None if projection is None else projection.to(device, dtype)
        self.dtype = dtype

    def fold(self, *inputs: Tensor) -> None:
        """Fold batch norms, by one pass in float32, and take on the dtype."""
        dtype, self.dtype = self.dtype, torch.float32
        graphs.fold_parts(self.refine, lambda: self(*inputs))
        self.dtype = dtype
        self.refine.to(dtype)

    def projected(self, features: Tensor) -> Tensor:
        """Features of the coarse stage in the form that `forward` takes."""
        if self.projection is None or features.shape[1] == self.projection.out_channels:
            return features
        with torch.inference_mode():
            return self.projection(features.to(self.dtype))

    def forward(
        self, image: Tensor, points: Tensor, features: Tensor, logits: Tensor, boxes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Refined and coarse logits on the focus crop, float32; see `Runner.refine`."""
        size = tuple(image.shape[2:])
        # Aligned in float32: boxes of a half are too coarse.
        aligned = on_focus_crop(features.float(), image.shape[-1], boxes)
        coarse = roi_align(logits, boxes, size, 1.0, aligned=True)
        maps = draw_on_device(self.stock_maps, points, size)
        inputs = (t.to(self.dtype) for t in (image, maps, aligned, coarse))
        return self.refine(*inputs).float(), coarse
