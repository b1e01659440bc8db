"""Exported files in half precision or 8-bit integers: smaller, and not the same network."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fdrn_adapter.images import read_image
from fdrn_adapter.session.interactive import InteractiveSession

IMAGES = (".jpg", ".jpeg", ".png", ".bmp")
MASKS = ("gt", "masks", "boundary_GT", "data_mask")  # folders of datasets that hold masks
MOST_IMAGES = 32
CLICKS = 4
IMAGE_CHANNELS = 4  # colours and the previous mask


def convert(
    model: nn.Module, out: Path, files: list[str], precision: str, crop: int,
    calibrate: str | Path | None,
) -> None:
    """Rewrite exported files in place.

    Args:
        model: what they were exported from.
        out: their folder.
        files: their names.
        precision: "fp16": weights and arithmetic of all files, inputs and outputs stay float32;
            "int8": convolutions of the decoder, weights per channel, activations by calibration.
        crop: of the decoder.
        calibrate: folder of photographs for int8.

    Raises:
        ValueError: no photographs in `calibrate`.
    """
    if precision == "fp16":
        _to_half(out, files)
    else:
        _to_int8(model, out / "decoder.onnx", crop, Path(calibrate))


def _to_half(out: Path, files: list[str]) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    for name in files:
        made = convert_float_to_float16(
            onnx.load(str(out / name)), keep_io_types=True,
            # Places on the image and click maps need more digits than half precision has.
            op_block_list=["Range", "Ceil", "RoiAlign", "Resize", "LessOrEqual", "Cast"],
        )
        onnx.save(made, str(out / name))


def _first_and_last(path: Path) -> list[str]:
    """Convolutions that see the image or give logits: few multiplications, and each error shows."""
    import onnx

    graph = onnx.load(str(path)).graph
    shapes = {weight.name: weight.dims for weight in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type == "Conv" and node.input[1] in shapes:
            given, taken = shapes[node.input[1]][:2]
            if given == 1 or taken <= IMAGE_CHANNELS:
                found.append(node.name)
    return found


def _to_int8(model: nn.Module, path: Path, crop: int, folder: Path) -> None:
    from onnxruntime import quantization

    inputs = clicks_on(model, folder, crop)

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(inputs, None)

    prepared = path.with_name("prepared.onnx")
    quantization.shape_inference.quant_pre_process(
        str(path), str(prepared), skip_symbolic_shape=True
    )
    try:
        quantization.quantize_static(
            str(prepared), str(path), Reader(), op_types_to_quantize=["Conv"], per_channel=True,
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            # Unsigned, too: sums of products with signed weights overflow without VNNI.
            weight_type=quantization.QuantType.QUInt8, nodes_to_exclude=_first_and_last(prepared),
        )
    finally:
        os.unlink(prepared)


@torch.no_grad()
def clicks_on(model: nn.Module, folder: Path, crop: int) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of the decoder while objects in photographs are clicked on.

    The first click is on the middle of the object where the dataset has a mask of the picture, else
    of the picture; further ones are around it, in turns on the object and beside it.

    Raises:
        ValueError: no photographs.
    """
    pictures = sorted(
        p for p in folder.rglob("*")
        if p.suffix.lower() in IMAGES and not set(p.parts) & set(MASKS)
    )[:MOST_IMAGES]
    if not pictures:
        raise ValueError(f"There are no photographs ({', '.join(IMAGES)}) in {folder}.")
    for picture in pictures:
        image = read_image(picture)
        session = InteractiveSession(model, engine="eager", crop=crop)
        session.set_image(image)
        seen: list = []
        hook = model.register_forward_pre_hook(lambda m, args, seen=seen: seen.append(args))
        try:
            for x, y, positive in _clicks(folder, picture, image.shape[:2]):
                session.add_click(x, y, positive)
                features = session.get_features()
                crops, points = seen[-1]
                tensors = {
                    "crop": crops[:, :3], "prev_mask": crops[:, 3:], "points": points.float(),
                    "roi": torch.tensor(session.pipeline.state.shown).float(),
                    "image_size": torch.tensor(features.image_size).float(),
                    "input_size": torch.tensor(features.input_size).float(), **features.maps,
                }
                if not model.with_prev_mask:
                    del tensors["prev_mask"]
                yield {name: t.contiguous().numpy() for name, t in tensors.items()}
        finally:
            hook.remove()


def _clicks(folder: Path, picture: Path, size: tuple[int, int]) -> list[tuple[int, int, bool]]:
    on = np.ones(size, bool)
    for kind in MASKS:
        for found in folder.glob(f"{kind}/{picture.stem}*"):
            mask = read_image(found)[..., 0] > 127
            if mask.shape == size and mask.any():
                on = mask
    rows, cols = np.nonzero(on)
    generator = np.random.default_rng(len(picture.stem))
    clicks = [(int(np.median(cols)), int(np.median(rows)), True)]
    for i in range(1, CLICKS):
        y, x = (rows, cols) if i % 2 else np.nonzero(~on)
        if not len(y):
            y, x = rows, cols
        pick = generator.integers(len(y))
        clicks.append((int(x[pick]), int(y[pick]), i % 2 == 1))
    return clicks
