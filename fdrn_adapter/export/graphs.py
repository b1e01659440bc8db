"""The networks that are exported, with everything inside that is not cutting and pasting."""

import torch
from torch import Tensor, nn

from fdrn_adapter.engines import graphs
from fdrn_adapter.engines.refinement import on_focus_crop
from fdrn_adapter.engines.rewrites import SeparableInterpolation
from fdrn_adapter.errors import UnsupportedHostError
from fdrn_adapter.features import recycling
from fdrn_adapter.features.roi import SHRINK, Grid
from fdrn_adapter.grafts.click_encoder import DecoupledClickMaps, split_current_click
from fdrn_adapter.hosts.description import HIGH_STRIDE, LOW_STRIDE

_AXES = {0: "batch", 2: "rows", 3: "cols"}


class Encoder(nn.Module):
    """F1: image (B, 3, H, W) in [0, 1] -> low, key, query (and context)."""

    inputs = ("image",)

    def __init__(self, model: nn.Module):
        super().__init__()
        self.encode = graphs.Encode(graphs.private_copy(model.image_encoder))
        self.outputs = self.encode.names
        self.dynamic = {"image": _AXES, **{
            name: {0: "batch", 2: f"{name}_rows", 3: f"{name}_cols"} for name in self.outputs
        }}

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.encode(image)


class Decoder(nn.Module):
    """F2 for a crop of a fixed size, with clicks as numbers and features as they are encoded.

    Inputs: crop (1, 3, S, S) in [0, 1]; roi (4,), image_size (2,) and input_size (2,; what the
    encoder was given, rows and columns); prev_mask (1, 1, S, S) where the host takes one; points
    (1, 2N, 3); low, key, query (and context). Outputs: logits (1, 1, S, S), for FocalClick
    also feature, projected to the channels that `RefineStage` goes on with.

    ROI Align is separable: along each axis it averages samples of a linear interpolation, which is
    a product with a matrix (cells of the host x cells of the encoder) made of the roi's numbers.

    Raises:
        UnsupportedHostError: a host of unknown structure.
    """

    def __init__(self, model: nn.Module, crop: int):
        super().__init__()
        self.parts = graphs.build_parts(model, model.info, (crop, crop), compose=False)
        if self.parts is None:
            raise UnsupportedHostError(f"{model.info.name} has a structure that is not exported.")
        maps = getattr(model.host, model.info.click_maps)
        self.decoupled = isinstance(maps, DecoupledClickMaps)
        self.union = maps.union if self.decoupled else None
        stock = maps.host_maps if self.decoupled else maps
        self.radius, self.scale = float(stock.norm_radius), float(stock.spatial_scale)
        self.disks = bool(stock.use_disks)
        self.binary = bool(getattr(model.host, "binary_prev_mask", False))
        self.grids, self.info, self.crop = model.image_encoder.grids, model.info, crop
        self.with_prev_mask = bool(model.with_prev_mask)
        self.inputs = (
            "crop", "roi", "image_size", "input_size",
            *(["prev_mask"] if self.with_prev_mask else []), "points", *self.grids,
        )
        self.outputs = ("logits", "feature") if model.info.refines else ("logits",)
        self.dynamic = {"points": {1: "two_n"}, **{
            name: {2: f"{name}_rows", 3: f"{name}_cols"} for name in self.grids
        }}

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(self.inputs, tensors, strict=True))
        place = torch.stack([given["image_size"], given["input_size"]]).double()
        aligned = {
            name: self._align(given[name], given["roi"].double(), place, name)
            for name in self.grids
        }
        low, affinity = aligned.get("low"), None
        if "context" in aligned:
            low = torch.cat([low, aligned["context"]], dim=1)
        if "key" in aligned:
            affinity = recycling.affinity(aligned["key"], aligned["query"])
        coords = self._maps(given["points"])
        if self.with_prev_mask:
            prev = given["prev_mask"]
            prev = (prev > 0.5).to(prev) if self.binary else prev
            coords = torch.cat([prev, coords], dim=1)
        with graphs.recycled(low, affinity), SeparableInterpolation():
            pre = self.parts.run_prepare(given["crop"])
            return self.parts.run_click(pre, coords)

    def _align(self, feature: Tensor, roi: Tensor, place: Tensor, name: str) -> Tensor:
        stride = LOW_STRIDE if name in ("low", "context") else HIGH_STRIDE
        side = self.info.network_size((self.crop, self.crop))[0]
        rows, cols = (
            alignment_matrix(
                roi[2 * axis], roi[2 * axis + 1], place[0, axis], place[1, axis], side,
                Grid(stride), self.grids[name], axis, -(-side // stride), feature.shape[2 + axis],
            ).to(feature)
            for axis in (0, 1)
        )
        return rows @ feature @ cols.T

    def _maps(self, points: Tensor) -> Tensor:
        if not self.decoupled:
            return self._draw(points)
        current, history = (self._draw(part) for part in split_current_click(points))
        return torch.cat([self.union(current, history), current, history], dim=1)

    def _draw(self, points: Tensor) -> Tensor:
        """(1, 2, S, S), as the stock DistMaps."""
        return draw(points, self.crop, self.radius, self.scale, self.disks)


class RefineStage(nn.Module):
    """FocalClick's second stage.

    Inputs: image (1, 3, S, S), the focus crop; points (1, 2N, 3) on it; feature and logits of the
    decoder; box (4,): x1, y1, x2, y2 of the focus crop in pixels of the decoder's crop. Output:
    refined logits on the focus crop.
    """

    inputs = ("crop", "points", "feature", "logits", "box")
    outputs = ("refined",)
    dynamic = {"points": {1: "two_n"}}

    def __init__(self, model: nn.Module):
        super().__init__()
        host = graphs.private_copy(model.host)
        self.refine = graphs.Refine(host)
        stock = host.dist_maps_refine
        self.radius, self.scale = float(stock.norm_radius), float(stock.spatial_scale)

    def forward(self, crop, points, feature, logits, box) -> Tensor:
        from torchvision.ops import roi_align

        side = int(crop.shape[-1])
        boxes = torch.cat([torch.zeros(1).to(box), box])[None]
        aligned = on_focus_crop(feature, side, boxes)
        coarse = roi_align(logits, boxes, [side, side], spatial_scale=1.0, aligned=True)
        maps = draw(points, side, self.radius, self.scale, True)
        return self.refine(crop, maps, aligned, coarse)


def draw(points: Tensor, side: int, radius: float, scale: float, disks: bool) -> Tensor:
    """Click maps (B, 2, side, side) in the stock arithmetic, for any number of points."""
    line = torch.arange(side, dtype=torch.float32)
    place = points[..., :2] * scale
    rows = line[None, None] - place[..., :1]  # (B, 2N, side)
    cols = line[None, None] - place[..., 1:2]
    if not disks:
        rows, cols = rows / (radius * scale), cols / (radius * scale)
    square = (rows * rows)[..., :, None] + (cols * cols)[..., None, :]  # (B, 2N, side, side)
    invalid = points[..., :2].amax(dim=2) < 0
    square = torch.where(invalid[..., None, None], torch.full_like(square, 1e6), square)
    nearest = square.unflatten(1, (2, -1)).amin(dim=2)
    if disks:
        return (nearest <= (radius * scale) ** 2).float()
    return (nearest.sqrt() * 2).tanh()


def alignment_matrix(
    first: Tensor, last: Tensor, image_side: Tensor, input_side: Tensor, crop_side: int,
    host: Grid, encoder: Grid, axis: int, n_out: int, n_in: Tensor | int,
) -> Tensor:
    """`roi.align` along one axis, (n_out, n_in): see `roi` for the frames that are chained.

    What `roi.samplings` computes from numbers, in operations that can be traced.

    Args:
        first, last: of the roi, inclusive, image pixels.
        image_side, input_side: pixels of the image and of what the encoder was given.
        crop_side: pixels of what the host's first convolution sees.
        host, encoder: grids of the two maps.
        n_out, n_in: cells of the two maps.
    """
    image_per_crop = (last - first) / (crop_side - 1)
    input_per_image = input_side / image_side
    image_px = first + host.offset_rc[axis] * image_per_crop
    input_px = (image_px + 0.5) * input_per_image - 0.5
    start = (input_px - encoder.offset_rc[axis]) / encoder.stride
    step = host.stride * image_per_crop * input_per_image / encoder.stride
    bin_size = step.clamp(min=1e-3) * (1 - SHRINK)
    samples = bin_size.ceil()
    begin = start + step * (n_out - 1) / 2 - bin_size * n_out / 2
    k = torch.arange(samples.long(), device=first.device).to(first)
    i = torch.arange(n_out).to(first)
    at = begin + i[:, None] * bin_size + (k[None] + 0.5) * bin_size / samples  # (n_out, samples)
    j = torch.arange(n_in).to(first)
    at = torch.minimum(at.clamp(min=0), j[-1])  # beyond the border the nearest cell stands in
    return (1 - (at[..., None] - j).abs()).clamp(min=0).mean(dim=1)
