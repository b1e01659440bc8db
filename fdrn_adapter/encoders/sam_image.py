"""How a SAM-layout image encoder (ONNX) wants its image: read from the graph.

SAM's own export, MobileSAM, EdgeSAM, HQ-SAM, EfficientSAM and their like take one image and give
an embedding; they differ in the order of axes, in the range, in whether they normalise, and in
whether they pad.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # of SAM, in 0..255
STD = np.array([58.395, 57.12, 57.375], np.float32)
_DTYPES = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
# Nodes that may stand between the image and its normalisation without changing values.
_MOVES = {"Cast", "Transpose", "Unsqueeze", "Squeeze", "Pad", "Resize", "Slice", "Reshape",
          "Identity", "Concat", "Gather"}


@dataclass(frozen=True)
class ImageInput:
    """How the encoder wants its image.

    Attributes:
        channels_first: (1,3,H,W), else (H,W,3) or (1,H,W,3).
        batched: whether there is a batch axis.
        size: rows and columns that the graph insists on; None where it takes any.
        pads: whether we pad to `size` or the square, because the graph does not.
        normalised: whether the graph wants (value - mean) / std.
        top: what white is, 1 or 255, if it does not.
    """

    name: str
    dtype: type
    channels_first: bool
    batched: bool
    size: tuple[int, int] | None
    pads: bool
    normalised: bool
    top: float

    def pixels(self, image: np.ndarray, side: int) -> np.ndarray:
        """The graph's input.

        Args:
            image: (h, w, 3) float32 RGB in 0..255, resized to fit the graph's square already.
            side: of the square where the graph does not say.
        """
        pixels = (image - MEAN) / STD if self.normalised else image
        if self.pads:
            rows, cols = self.size or (side, side)
            canvas = np.zeros((rows, cols, 3), np.float32)
            canvas += 0 if self.normalised else MEAN  # SAM pads after the normalisation, by 0
            canvas[: image.shape[0], : image.shape[1]] = pixels
            pixels = canvas
        if not self.normalised:
            pixels = pixels * (self.top / 255)
        if self.dtype == np.uint8:
            pixels = pixels.round()
        pixels = pixels.transpose(2, 0, 1) if self.channels_first else pixels
        return np.ascontiguousarray(pixels[None] if self.batched else pixels, self.dtype)


def dtype_of(node: Any) -> type:
    """The numpy type of an input or output of a graph."""
    return _DTYPES.get(node.type, np.float32)


def read_image_input(encoder: Any, path: Path, efficient: bool = False) -> ImageInput:
    """How an encoder wants its image.

    Args:
        encoder: an `onnxruntime.InferenceSession`.
        path: of its file, where its normalisation is looked for.
        efficient: whether it is of EfficientSAM's layout.

    Raises:
        ValueError: its input is no RGB image.
    """
    node = encoder.get_inputs()[0]
    shape = list(node.shape)
    batched = len(shape) == 4
    inner = shape[1:] if batched else shape
    if len(inner) != 3 or 3 not in (inner[0], inner[2]):
        raise ValueError(f"the encoder's input {node.name} {shape} is no RGB image")
    channels_first = inner[0] == 3
    rows, cols = inner[1:] if channels_first else inner[:2]
    size = (rows, cols) if isinstance(rows, int) and isinstance(cols, int) else None
    dtype = dtype_of(node)
    inside, top = _normalisation(path, node.name)
    if inside is None:  # without onnx: the usual exports
        inside = efficient or dtype == np.uint8 or not channels_first
        top = 1.0 if efficient else 255.0
        logger.info("onnx is not installed: taking it that %s %s its image itself", path,
                    "normalises" if inside else "does not normalise")
    return ImageInput(
        name=node.name, dtype=dtype, channels_first=channels_first, batched=batched, size=size,
        pads=not efficient and (size is not None or not inside), normalised=not inside, top=top,
    )


def _normalisation(path: Path, image: str) -> tuple[bool | None, float]:
    """Whether the graph subtracts a mean, and of which range; (None, 255) if onnx is missing."""
    try:
        import onnx
    except ImportError:
        return None, 255.0
    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {i.name: i for i in graph.initializer}
    images, scaled = {image}, False
    for node in graph.node:  # in topological order
        if node.op_type == "Constant":
            constants[node.output[0]] = node.attribute[0].t
        if not images & set(node.input):
            continue
        if node.op_type in ("Sub", "Add"):
            other = next((constants[n] for n in node.input if n in constants), None)
            known = other is not None and other.data_location != onnx.TensorProto.EXTERNAL
            mean = np.abs(onnx.numpy_helper.to_array(other)).max() if known else 255.0
            return True, 255.0 if mean > 1 or scaled else 1.0
        if node.op_type in ("Div", "Mul"):
            scaled = True
        elif node.op_type not in _MOVES:
            if node.op_type != "Shape":
                break
            continue
        images.update(node.output)
    return scaled, 255.0
