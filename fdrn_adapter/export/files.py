"""An FDRN as ONNX files that need neither torch nor this package.

    encoder.onnx   image of any size -> features; once per image
    decoder.onnx   crop, where it was cut, previous mask, clicks, features -> logits; every click
    refine.onnx    FocalClick's second stage
    meta.json      what goes in and comes out, and all that is around the graphs (`meta`); checksums
    example.npz    a picture, clicks and what a session makes of them
    onnx_click.py  all of it with numpy, onnxruntime and Pillow

Clicks are drawn and features are aligned inside the decoder (see `graphs`). The files of a folder
belong together: they are put there at once, meta.json last.
"""

import json
import logging
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fdrn_adapter import hosts
from fdrn_adapter.engines.onnx_graph import to_onnx
from fdrn_adapter.engines.parts import projection_of
from fdrn_adapter.export import PRECISIONS
from fdrn_adapter.export import precision as lower_precision
from fdrn_adapter.export.embedding import embedding_graph
from fdrn_adapter.export.graphs import Decoder, Encoder, RefineStage
from fdrn_adapter.export.meta import described
from fdrn_adapter.output_folders import only_writer, together
from fdrn_adapter.session.interactive import InteractiveSession

logger = logging.getLogger(__name__)

TOLERANCE = 1e-3  # logits of the files in fp32, against the model
EXAMPLE, VECTORS, MANIFEST = "onnx_click.py", "example.npz", "meta.json"
_IMAGE_SIZE = (160, 201)  # rows, columns of the image to trace with; a multiple of nothing


def export(
    model: nn.Module, out: str | Path, crop: int | None = None, precision: str = "fp32",
    calibrate: str | Path | None = None,
) -> dict[str, Any]:
    """Write the files and return what meta.json holds.

    Args:
        model: an FDRN model in eval mode, float32 on the CPU; it is not changed.
        out: folder, made if needed; what an export before left there stays until all is made.
        crop: side of the crop in pixels, a multiple of 32; the model's own where None.
        precision: "fp32", "fp16" (weights and arithmetic; inputs and outputs stay float32) or
            "int8" (decoder only, static).
        calibrate: folder of photographs, for int8.

    Raises:
        ValueError: not an FDRN, a bad option, or a missing package.
        FolderInUseError: another export writes to the folder.
        RuntimeError: the files do not compute what the model does.
    """
    _check(model, precision, calibrate)
    if crop is None:
        crop = model.info.fdrn_crop if model.inference is None else model.inference.crop
    if crop < 64 or crop % 32:
        raise ValueError(f"crop should be a multiple of 32, at least 64 pixels; got {crop}.")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    with only_writer(out, "an export"), together(out, MANIFEST) as aside:
        meta = _write(model, aside, crop, precision, calibrate)
    return meta


def _write(model: nn.Module, out: Path, crop: int, precision: str, calibrate) -> dict[str, Any]:
    tensors, files = _example(model, crop), []
    for name, graph in _graphs(model, crop).items():
        files.append(f"{name}.onnx")
        (out / files[-1]).write_bytes(_serialised(graph, tensors))
    difference = _compare(model, out, crop)
    if precision != "fp32":
        lower_precision.convert(model, out, files, precision, crop, calibrate)
        difference = _compare(model, out, crop, tolerance=None)
    shutil.copy(str(resources.files("fdrn_adapter.examples") / EXAMPLE), out / EXAMPLE)
    session = InteractiveSession(model, engine="eager", crop=crop)
    np.savez_compressed(out / VECTORS, **_vectors(session))
    meta = described(session, out, crop, precision, files) | {"logit_difference": difference}
    (out / MANIFEST).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
    return meta


def _serialised(graph: nn.Module, tensors: dict) -> bytes:
    if graph.backbone is not None:
        return embedding_graph(graph.backbone)
    inputs = [tensors[i] for i in graph.inputs]
    return to_onnx(graph, inputs, graph.inputs, graph.outputs, graph.dynamic)


def _vectors(session: InteractiveSession) -> dict[str, np.ndarray]:
    """Clicks on a made-up picture, and what they give."""
    y, x = np.mgrid[:210, :300]
    inside = ((y - 90) / 45) ** 2 + ((x - 120) / 60) ** 2 < 1
    image = np.stack([y * 255 // 209, x * 255 // 299, (y + x) // 2 % 256], -1).astype(np.uint8)
    image[inside] = 255 - image[inside] // 3
    clicks, probs = [(120, 90, 1), (150, 100, 1), (250, 30, 0), (70, 85, 1)], []
    session.set_image(image)
    for click in clicks:
        session.add_click(*click)
        probs.append(session.prob.astype(np.float16))
    return {"image": image, "clicks_xy_positive": np.array(clicks), "probs": np.stack(probs)}


def _check(model: nn.Module, precision: str, calibrate) -> None:
    if hosts.encoder_of(model) is None:
        raise ValueError(
            "export() takes an FDRN model with an image encoder. A stock network becomes one by "
            "fdrn_adapter.wrap(net), its checkpoint by `fdrn wrap STOCK.pth OUT.pth`."
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
    seen = model.image_encoder.resized(image)
    points = torch.tensor([[[30.5, 40, 0], [90, 70, 2], [60, 60.2, 1], [-1, -1, -1]]])
    cut = torch.rand(1, 3, crop, crop, generator=generator)
    tensors = {
        "image": seen, "original": image, "crop": cut, "points": points,
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
        with torch.no_grad(), model.recycling(model.encode_image(tensors["original"]), [rois]):
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
