"""What meta.json says: enough to write a client in any language without reading this package."""

from pathlib import Path
from typing import Any

from fdrn_adapter import __version__
from fdrn_adapter.engines.onnx_graph import OPSET
from fdrn_adapter.hosts.catalogue import host_of
from fdrn_adapter.output_folders import checksum
from fdrn_adapter.session.clicked_disks import RADIUS_PX
from fdrn_adapter.session.interactive import InteractiveSession

FORMAT = "fdrn_adapter.onnx/2"


def described(
    session: InteractiveSession, out: Path, crop: int, precision: str, files: list[str]
) -> dict[str, Any]:
    """The content of meta.json.

    Args:
        session: as the files are to be used.
        out: folder of the files.
        crop, precision: see `files.export`.
        files: names of the graphs.
    """
    model, encoder = session.model, session.model.image_encoder
    _, info = host_of(model)
    return {
        "format": FORMAT,
        "package": f"fdrn_adapter {__version__}",
        "opset": OPSET,
        "model": f"{info.name}, image encoder {encoder.name}",
        "precision": precision,
        "crop": crop,
        "threshold": session.threshold,
        "encoder_side": encoder.backbone.side,
        "encoder_max_side": encoder.max_side,
        "features": {
            name: {"stride": grid.stride, "offset_rc": list(grid.offset_rc)}
            for name, grid in encoder.grids.items()
        },
        "with_prev_mask": bool(model.with_prev_mask),
        "zoom": session.pipeline.rules.zoom,
        "first_twice": session.pipeline.first_twice,
        "honour_clicks_px": RADIUS_PX if session.pipeline.honour_clicks else 0,
        "use": _USE,
        "files": {name: _file(out / name) for name in files},
    }


_USE = {
    "sizes": "rows, columns; pixel (0, 0) is the one at the top left; x is the column, y the row",
    "image": "RGB in [0, 1], float32, (1, 3, rows, columns); normalisation is inside the graphs",
    "encoder input": (
        "the image with its longest side at encoder_side, also where that enlarges it; where "
        "encoder_side is null, at encoder_max_side if it is longer, else as it is. The other side "
        "is round(side * new / longest), halves to even, 1 at least. Bilinear about the centres of "
        "pixels, (i + 0.5) * old / new - 0.5; where it shrinks, triangles of the width old / new. "
        "image_size is the image's rows and columns, input_size those of what the encoder was given"
    ),
    "roi": (
        "rmin, rmax, cmin, cmax, inclusive, image pixels: what of the image is looked at. Without "
        "a pixel above zoom.threshold in the probabilities before, it is the whole image. Else the "
        "bounds of these pixels and of all positive clicks; middle 0.5 * (first + last); side "
        "max(zoom.expansion * (last - first + 1), zoom.min_side_px); ends round(middle -+ side / "
        "2), halves to even, cut off at the image. The roi of the click before stays if every "
        "positive click is in it (rmin <= row < rmax, cmin <= column < cmax) and the overlaps of "
        "rows and of columns (common / covered by either, in pixels) have a product of at least "
        "zoom.keep_iou"
    ),
    "crop": "the roi, resized to crop x crop, bilinear with aligned corners (corner on corner)",
    "points": (
        "(1, 2N, 3): N positive, then N negative rows (row, col, order), filled up with -1. row = "
        "crop * (y - rmin) / (rmax - rmin + 1), col = crop * (x - cmin) / (cmax - cmin + 1), not "
        "rounded; order counts all clicks on the object from 0"
    ),
    "prev_mask": (
        "(1, 1, crop, crop): the probabilities of the click before, zeros at the first, of the roi "
        "and resized as the crop"
    ),
    "logits": (
        "(1, 1, crop, crop). Probability = sigmoid(logit), then resized to the roi's size, "
        "bilinear with aligned corners, and pasted there; 0 outside of the roi. The object is "
        "where it is above threshold"
    ),
    "first_twice": (
        "if true, the first click on an object is looked at again if a pixel is above "
        "zoom.threshold: with the roi made of what was found (none of before), zeros as prev_mask"
    ),
    "honour_clicks_px": (
        "if not 0, after each click the probability is set to 1 or 0 within a radius of "
        "max(1, round(honour_clicks_px * longest side of the roi / crop)) image pixels around all "
        "clicks, oldest first; this is what the next click takes for prev_mask and roi"
    ),
    "example": "example.npz: image, clicks in turn, and the probabilities (float16) after each",
    "refine.onnx": (
        "FocalClick's second stage, where it is there: crop and points of the focus crop, feature "
        "and logits of the decoder, box x1, y1, x2, y2 of the focus crop on the decoder's crop. "
        "How the focus crop is chosen is not said here"
    ),
}


def _file(path: Path) -> dict[str, Any]:
    import onnx

    graph = onnx.load(str(path)).graph
    return {
        "sha256": checksum(path),
        "bytes": path.stat().st_size,
        "inputs": {i.name: _shape(i) for i in graph.input},
        "outputs": {o.name: _shape(o) for o in graph.output},
    }


def _shape(value: Any) -> list:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
