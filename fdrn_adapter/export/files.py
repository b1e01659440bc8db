"""An FDRN as ONNX files that need neither torch nor this package.

    encoder.onnx   image of any size -> features; once per image
    decoder.onnx   crop, where it was cut, previous mask, clicks, features -> logits; every click
    refine.onnx    FocalClick's second stage
    meta.json      shapes, normalisation, strides, inputs and outputs, checksums
    onnx_click.py  all of it with numpy and onnxruntime

Clicks are drawn and features are aligned inside the decoder (see `graphs`).
"""

import hashlib
import json
import logging
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fdrn_adapter import __version__, hosts
from fdrn_adapter.engines.onnx_graph import OPSET, to_onnx
from fdrn_adapter.engines.parts import projection_of
from fdrn_adapter.export import PRECISIONS
from fdrn_adapter.export import precision as lower_precision
from fdrn_adapter.export.graphs import Decoder, Encoder, RefineStage

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3  # logits of the files in fp32, against the model
EXAMPLE = "onnx_click.py"
_IMAGE_SIZE = (160, 201)  # rows, columns of the image to trace with; a multiple of nothing


def export(
    model: nn.Module, out: str | Path, crop: int | None = None, precision: str = "fp32",
    calibrate: str | Path | None = None,
) -> dict[str, Any]:
    """Write the files and return what meta.json holds.

    Args:
        model: an FDRN model in eval mode, float32 on the CPU; it is not changed.
        out: folder, made if needed.
        crop: side of the crop in pixels, a multiple of 32; the model's own where None.
        precision: "fp32", "fp16" (weights and arithmetic; inputs and outputs stay float32) or
            "int8" (decoder only, static).
        calibrate: folder of photographs, for int8.

    Raises:
        ValueError: not an FDRN, a bad option, or a missing package.
        RuntimeError: the files do not compute what the model does.
    """
    _check(model, precision, calibrate)
    if crop is None:
        crop = model.info.fdrn_crop if model.inference is None else model.inference.crop
    if crop < 64 or crop % 32:
        raise ValueError(f"crop should be a multiple of 32, at least 64 pixels; got {crop}.")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    graphs = _graphs(model, crop)
    tensors = _example(model, crop)
    files = {}
    for name, graph in graphs.items():
        inputs = [tensors[i] for i in graph.inputs]
        made = to_onnx(graph, inputs, graph.inputs, graph.outputs, graph.dynamic)
        (out / f"{name}.onnx").write_bytes(made)
        files[f"{name}.onnx"] = graph
    difference = _compare(model, out, crop)
    if precision != "fp32":
        lower_precision.convert(model, out, list(files), precision, crop, calibrate)
    shutil.copy(str(resources.files("fdrn_adapter.examples") / EXAMPLE), out / EXAMPLE)
    meta = _meta(model, out, crop, precision, files)
    meta["logit_difference"] = difference if precision == "fp32" else _compare(
        model, out, crop, tolerance=None
    )
    (out / "meta.json").write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    return meta


def _check(model: nn.Module, precision: str, calibrate) -> None:
    if hosts.encoder_of(model) is None:
        raise ValueError(
            "export() takes an FDRN model with an image encoder. A stock network becomes one by "
            "fdrn_adapter.wrap(net)."
        )
    if model.training:
        raise ValueError("The model is in training mode; call model.eval() first.")
    parameter = next(model.parameters())
    if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
        raise ValueError(
            f"The model is on {parameter.device} in {parameter.dtype}; export takes "
            "model.cpu().float()."
        )
    if precision not in PRECISIONS:
        raise ValueError(f"precision should be one of {PRECISIONS}, got {precision!r}.")
    if (precision == "int8") != (calibrate is not None):
        raise ValueError("int8 needs calibrate=DIR, a folder of photographs, and only int8 does.")
    for package in ("onnx", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise ValueError(
                f"fdrn export needs {package}: pip install 'fdrn_adapter[onnxruntime]'"
            ) from error


def _graphs(model: nn.Module, crop: int) -> dict[str, nn.Module]:
    graphs = {"encoder": Encoder(model).eval(), "decoder": Decoder(model, crop).eval()}
    if model.info.refines:
        graphs["refine"] = RefineStage(model).eval()
    return graphs


@torch.no_grad()
def _example(model: nn.Module, crop: int, rois=(20, 139, 10, 190), size=_IMAGE_SIZE) -> dict:
    """Inputs of all graphs by name, of a real encoding of noise."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, *size, generator=generator)
    features = model.encode_image(image)
    points = torch.tensor([[[30.5, 40, 0], [90, 70, 2], [60, 60.2, 1], [-1, -1, -1]]])
    cut = torch.rand(1, 3, crop, crop, generator=generator)
    tensors = {
        "image": image, "crop": cut, "points": points,
        "roi": torch.tensor(rois, dtype=torch.float32),
        "image_size": torch.tensor(features.image_size, dtype=torch.float32),
        "input_size": torch.tensor(features.input_size, dtype=torch.float32),
        "prev_mask": torch.rand(1, 1, crop, crop, generator=generator),
        **features.maps,
    }
    if model.info.refines:
        with model.recycling(features, tensors["roi"][None]):
            joined = torch.cat([cut, tensors["prev_mask"]], dim=1)
            outputs = model(joined, points)
        project = projection_of(model.host)
        tensors |= {
            "logits": outputs["instances"], "host_feature": outputs["feature"],
            "feature": outputs["feature"] if project is None else project(outputs["feature"]),
            "box": torch.tensor([12.0, 20.0, 140.0, 111.5]),
        }
    return tensors


def _compare(model, out: Path, crop: int, tolerance: float | None = TOLERANCE) -> float:
    """Largest difference of logits, files against model, on images of several sizes."""
    import onnxruntime

    sessions = {
        name: onnxruntime.InferenceSession(str(out / f"{name}.onnx"),
                                           providers=["CPUExecutionProvider"])
        for name in ("encoder", "decoder", *["refine"] * bool(model.info.refines))
    }
    worst = 0.0
    for rois, size in (((20, 139, 10, 190), _IMAGE_SIZE), ((0, 95, 0, 333), (96, 334))):
        tensors = _example(model, crop, rois, size)
        with torch.no_grad(), model.recycling(model.encode_image(tensors["image"]), [rois]):
            joined = [tensors["crop"]] + [tensors["prev_mask"]] * bool(model.with_prev_mask)
            want = model(torch.cat(joined, dim=1), tensors["points"])["instances"].numpy()
        maps = _run(sessions["encoder"], tensors)
        got = _run(sessions["decoder"], tensors | maps)
        worst = max(worst, _off(want, got["logits"]))
        if model.info.refines:
            made = tensors | {"feature": got["feature"]}  # by the decoder, as in use
            worst = max(worst, _compare_refinement(model, sessions["refine"], made))
    if tolerance is not None and not worst <= tolerance:
        raise RuntimeError(
            f"The exported files give logits that are off by {worst:.3g}; please report this."
        )
    return worst


def _compare_refinement(model, session: Any, tensors: dict) -> float:
    boxes = torch.cat([torch.zeros(1), tensors["box"]])[None]
    given = (tensors[name] for name in ("crop", "points", "host_feature", "logits"))
    with torch.no_grad():
        want = model.refine(*given, boxes)["instances_refined"].numpy()
    return _off(want, _run(session, tensors)["refined"])


def _off(want: np.ndarray, got: np.ndarray) -> float:
    """Largest difference, relative to logits above 1."""
    return float(np.abs(want - got).max()) / max(1.0, float(np.abs(want).max()))


def _run(session: Any, tensors: dict) -> dict[str, np.ndarray]:
    feed = {i.name: np.asarray(tensors[i.name]) for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def _meta(model, out: Path, crop: int, precision: str, graphs: dict) -> dict[str, Any]:
    import onnx

    info: hosts.HostInfo = model.info
    files = {}
    for name in graphs:
        path = out / name
        described = onnx.load(str(path)).graph
        files[name] = {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "bytes": path.stat().st_size,
            "inputs": {i.name: _shape(i) for i in described.input},
            "outputs": {o.name: _shape(o) for o in described.output},
        }
    return {
        "format": "fdrn_adapter.onnx/1",
        "package": f"fdrn_adapter {__version__}",
        "opset": OPSET,
        "model": f"{info.name}, image encoder {model.image_encoder.name}",
        "precision": precision,
        "crop": crop,
        "image": "RGB in [0, 1], (1, 3, rows, columns); normalisation is inside the graphs",
        "normalization": {
            "encoder_mean": model.image_encoder.mean.flatten().tolist(),
            "encoder_std": model.image_encoder.std.flatten().tolist(),
            "decoder_mean": model.host.normalization.mean.flatten().tolist(),
            "decoder_std": model.host.normalization.std.flatten().tolist(),
        },
        "encoder_max_side": model.image_encoder.max_side,
        "features": {
            name: {"stride": grid.stride, "offset_rc": list(grid.offset_rc)}
            for name, grid in model.image_encoder.grids.items()
        },
        "roi": "rmin, rmax, cmin, cmax, inclusive, in image pixels; crops are resized with aligned "
               "corners",
        "points": "(1, 2N, 3): N positive then N negative rows (row, col, order) on the crop; -1 "
                  "pads; order counts clicks from 0",
        "with_prev_mask": bool(model.with_prev_mask),
        "files": files,
    }


def _shape(value: Any) -> list:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]

