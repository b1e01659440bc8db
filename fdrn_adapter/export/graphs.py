"""The networks that are exported, with everything inside that is not cutting and pasting."""

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from fdrn_adapter.engines import graphs
from fdrn_adapter.engines.refinement import on_focus_crop
from fdrn_adapter.engines.rewrites import SeparableInterpolation
from fdrn_adapter.features.intake import Intake
from fdrn_adapter.features.roi import alignment_matrix
from fdrn_adapter.grafts.click_encoder import DecoupledClickMaps

_AXES = {0: "batch", 2: "rows", 3: "cols"}


class Encoder(nn.Module):
    """F1: image (B, 3, H, W) in [0, 1] -> low, key, query (and context)."""

    inputs = ("image",)

    def __init__(self, model: nn.Module):
        super().__init__()
        backbone = model.image_encoder.backbone
        # One that runs in a graph of somebody else's is put together of that (`embedding`).
        self.backbone = backbone if backbone.runs_itself else None
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
        self.backbone = None
        self.parts = graphs.build_parts(model, model.info, (crop, crop), compose=False)
        self.intakes = self.parts.net.intakes
        self.maps = getattr(self.parts.host, model.info.click_maps)
        stock = getattr(self.maps, "host_maps", self.maps)
        self.radius, self.scale = float(stock.norm_radius), float(stock.spatial_scale)
        self.disks = bool(stock.use_disks)
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
        taken = {
            i.name: i.combine(*(self._align(given, name, i) for name in i.maps))
            for i in self.intakes
        }
        coords = self._maps(given["points"])
        if self.with_prev_mask:
            prev = self.parts.prev_mask(torch.cat([given["crop"], given["prev_mask"]], dim=1))
            coords = torch.cat([prev, coords], dim=1)
        with self.parts.recycling(taken), SeparableInterpolation():
            pre = self.parts.run_prepare(given["crop"])
            return self.parts.run_click({"pre": pre, "coords": coords})

    def _align(self, given: dict[str, Tensor], name: str, intake: Intake) -> Tensor:
        """A map on the cells of the host's."""
        feature, roi = given[name], given["roi"].double()
        seen = self.info.network_size((self.crop, self.crop))
        matrices = [
            alignment_matrix(
                roi[2 * axis], roi[2 * axis + 1], given["image_size"][axis].double(),
                given["input_size"][axis].double(), seen[axis], intake.grid, self.grids[name], axis,
                intake.cells(seen)[axis], feature.shape[2 + axis],
            ).to(feature)
            for axis in (0, 1)
        ]
        return matrices[0] @ feature @ matrices[1].T

    def _maps(self, points: Tensor) -> Tensor:
        """(1, 2 or 6, S, S), as the stock DistMaps or what stands in for it."""
        def drawn(part: Tensor) -> Tensor:
            return draw(part, self.crop, self.radius, self.scale, self.disks)

        if isinstance(self.maps, DecoupledClickMaps):
            return self.maps(points, points, drawn)
        return drawn(points)


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
        self.backbone = None
        host = graphs.private_copy(model.host)
        self.refine = graphs.Refine(host)
        stock = host.dist_maps_refine
        self.radius, self.scale = float(stock.norm_radius), float(stock.spatial_scale)

    def forward(self, crop, points, feature, logits, box) -> Tensor:
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
