"""What a pair of SAM graphs expects: names, shapes, dtypes and normalisation, read from the graphs.

Three layouts are told apart by the decoder's input names:

- SAM's own (also MobileSAM and other distillations): `point_coords`, `point_labels`, `mask_input`,
  `has_mask_input`, `orig_im_size`; the image's longest side becomes the encoder's side.
- HQ-SAM: the same and `interm_embeddings`, or whatever else the encoder hands over.
- EfficientSAM: `batched_point_coords`, `batched_point_labels`, `orig_im_size`; the graph stretches
  the image to a square by itself, and clicks are in the pixels of the image.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fdrn_adapter.encoders.sam_image import ImageInput, dtype_of, read_image_input

SIDE = 1024  # of SAM's square where the graph does not say
LOW_RES = 256
# EfficientSAM's own limit; the graph cuts or pads to it, and does not name it.
EFFICIENT_MAX_POINTS = 6
EXPECTED = (
    "an encoder with one image input (1,3,S,S) or (H,W,3) and the embeddings as outputs, and a "
    "decoder with point_coords, point_labels [mask_input, has_mask_input, orig_im_size] or "
    "batched_point_coords, batched_point_labels, orig_im_size, besides the embeddings"
)
_POINTS = (("point_coords", "point_labels"), ("batched_point_coords", "batched_point_labels"))
_PROMPTS = {*_POINTS[0], *_POINTS[1], "mask_input", "has_mask_input", "orig_im_size"}


class SamLayoutError(ValueError):
    """Two graphs that are not a SAM encoder and decoder as this package knows them."""


@dataclass(frozen=True)
class Layout:
    """A pair of graphs.

    Attributes:
        efficient: EfficientSAM's layout.
        embeddings: decoder input -> encoder output.
        dtypes: of the decoder's inputs.
        points: most points the decoder takes, None for any number.
        fixed_points: whether it takes exactly `points`.
        low_res: side of `mask_input`.
        feeds_back: whether the mask of a click is an input of the next.
        masks, low_res_masks, iou: names of the decoder's outputs, None where missing.
    """

    image: ImageInput
    efficient: bool
    embeddings: dict[str, str]
    dtypes: dict[str, type]
    points: int | None
    fixed_points: bool
    low_res: int
    feeds_back: bool
    masks: str | None
    low_res_masks: str | None
    iou: str | None

    @property
    def side(self) -> int:
        """Of the square that low-resolution masks cover, in pixels of the encoder's image."""
        return max(self.image.size) if self.image.size else SIDE


def read(encoder: Any, decoder: Any, encoder_path: Path) -> Layout:
    """The layout of two `onnxruntime.InferenceSession`s.

    Raises:
        SamLayoutError: it is none that is known; the message lists what was found.
    """
    inputs = {i.name: i for i in decoder.get_inputs()}
    points = next((pair for pair in _POINTS if set(pair) <= set(inputs)), None)
    if points is None or len(encoder.get_inputs()) != 1:
        raise _error(encoder, decoder, "they are not a SAM layout")
    efficient = points == _POINTS[1]
    if any(name.startswith("high_res") for name in inputs):
        raise _error(encoder, decoder, "this is SAM 2, which is not supported")
    number = inputs[points[0]].shape[-2]
    fixed = isinstance(number, int)
    if fixed and number < 2:
        raise _error(encoder, decoder, f"the decoder takes {number} point; export it with a "
                     "dynamic number of points")
    outputs = [o.name for o in decoder.get_outputs()]
    low_res_masks = None if efficient else _named(outputs, "low_res")
    masks = next((n for n in outputs if "mask" in n and n != low_res_masks), None)
    if masks is None and low_res_masks is None:
        raise _error(encoder, decoder, "the decoder has no output called masks")
    feeds_back = {"mask_input", "has_mask_input"} <= set(inputs) and low_res_masks is not None
    side = inputs["mask_input"].shape[-1] if "mask_input" in inputs else None
    return Layout(
        image=_image_input(encoder, decoder, encoder_path, efficient),
        efficient=efficient,
        embeddings=_embeddings(encoder, decoder),
        dtypes={name: dtype_of(i) for name, i in inputs.items()},
        points=number if fixed else EFFICIENT_MAX_POINTS if efficient else None,
        fixed_points=fixed,
        low_res=side if isinstance(side, int) else LOW_RES,
        feeds_back=feeds_back,
        masks=masks,
        low_res_masks=low_res_masks,
        iou=_named(outputs, "iou"),
    )


def _named(names: list[str], part: str) -> str | None:
    return next((name for name in names if part in name), None)


def _image_input(encoder: Any, decoder: Any, path: Path, efficient: bool) -> ImageInput:
    try:
        return read_image_input(encoder, path, efficient)
    except ValueError as error:
        raise _error(encoder, decoder, str(error)) from error


def _embeddings(encoder: Any, decoder: Any) -> dict[str, str]:
    """Which encoder output every other decoder input takes: by name, else the only one that fits.
    """
    outputs = {o.name: o for o in encoder.get_outputs()}
    wanted = [i for i in decoder.get_inputs() if i.name not in _PROMPTS]
    pairs = {i.name: i.name for i in wanted if i.name in outputs}
    for node in wanted:
        if node.name in pairs:
            continue
        free = [o for o in outputs.values() if o.name not in pairs.values()
                and _fits(o.shape, node.shape)]
        if len(free) != 1:
            raise _error(encoder, decoder, f"no output of the encoder, or more than one, fits the "
                         f"decoder's {node.name}")
        pairs[node.name] = free[0].name
    if not pairs:
        raise _error(encoder, decoder, "the decoder takes nothing from the encoder")
    return pairs


def _fits(given: list, wanted: list) -> bool:
    return len(given) == len(wanted) and all(
        a == b or not isinstance(a, int) or not isinstance(b, int)
        for a, b in zip(given, wanted, strict=True)
    )


def _error(encoder: Any, decoder: Any, problem: str) -> SamLayoutError:
    def listed(nodes: list) -> str:
        return ", ".join(f"{n.name} {list(n.shape)}" for n in nodes) or "nothing"

    return SamLayoutError(
        f"These two graphs cannot be used: {problem}. The first takes "
        f"{listed(encoder.get_inputs())} and gives {listed(encoder.get_outputs())}; the second "
        f"takes {listed(decoder.get_inputs())} and gives {listed(decoder.get_outputs())}. "
        f"Expected: {EXPECTED}. The encoder comes first: sam:ENCODER.onnx,DECODER.onnx."
    )
