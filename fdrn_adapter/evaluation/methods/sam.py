"""Any SAM-layout pair of ONNX graphs (encoder, decoder) as a method under test.

The encoder runs once per image, the decoder on every click with all clicks so far and, from the
second click on, the low-resolution mask it gave before (SAM's own interactive use). Coordinates
are scaled with the image, whose longest side becomes the encoder's side (1024), and a padding
point with label -1 takes the place of the box. See `sam_layout` for what is read from the graphs.

Run with real weights: MobileSAM's layout. HQ-SAM's and EfficientSAM's are run by the tests on
small graphs of the same interface only; SAM 2 is refused.
"""

from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.evaluation.methods import sam_layout
from fdrn_adapter.evaluation.methods.method import Built, Method, ModelSpec, Options

PREFIX = "sam:"


def build(spec: str, threads: int | None = None) -> "SamSegmenter":
    """A method from `sam:ENCODER.onnx,DECODER.onnx`.

    Args:
        spec: also the method's name.
        threads: of onnxruntime within one operation; None for its default.

    Raises:
        ValueError: not two paths, a file is missing or no ONNX graph, or onnxruntime is missing.
        SamLayoutError: the graphs are not a SAM encoder and decoder.
    """
    paths = [Path(p) for p in spec.removeprefix(PREFIX).split(",")]
    if not spec.startswith(PREFIX) or len(paths) != 2 or not all(str(p) != "." for p in paths):
        raise ValueError(f"{spec!r} should be sam:ENCODER.onnx,DECODER.onnx.")
    encoder, decoder = (_session(path, threads) for path in paths)
    return SamSegmenter(spec, encoder, decoder, sam_layout.read(encoder, decoder, paths[0]))


def _session(path: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            "sam: needs onnxruntime, which is not installed: pip install "
            "'fdrn_adapter[onnxruntime]'."
        ) from error
    if not path.is_file():
        raise ValueError(f"There is no ONNX file {path}.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # exports are full of harmless warnings
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions have no class in common
        raise ValueError(f"{path} is not a graph that onnxruntime can run: {error}") from error


class SamSegmenter:
    """SAM on clicks.

    Attributes:
        name: as the user called it.
        layout: what was read from the graphs.
    """

    def __init__(self, name: str, encoder: Any, decoder: Any, layout: sam_layout.Layout) -> None:
        self.name = name
        self.layout = layout
        self._encoder, self._decoder = encoder, decoder
        self._embeddings: dict[str, np.ndarray] | None = None  # by the decoder's names
        self._shape = self._resized = (0, 0)
        self.start_object()

    def set_image(self, image: np.ndarray) -> None:
        """Encode an image, (H, W, 3) uint8 RGB, and start an object."""
        self._shape = image.shape[:2]
        pixels = self._preprocess(image)
        names = list(dict.fromkeys(self.layout.embeddings.values()))
        given = dict(zip(names, self._encoder.run(names, {self.layout.image.name: pixels}),
                         strict=True))
        self._embeddings = {
            wanted: given[name].astype(self.layout.dtypes[wanted], copy=False)
            for wanted, name in self.layout.embeddings.items()
        }
        self.start_object()

    def start_object(self) -> None:
        """Forget clicks and mask, keep the embeddings."""
        self._clicks: list[tuple[int, int, bool]] = []
        self._low_res: np.ndarray | None = None

    def add_click(self, x: int, y: int, positive: bool) -> np.ndarray:
        """Probability of the object, (H, W) float32: the sigmoid of SAM's logits.

        Raises:
            RuntimeError: there is no image yet.
        """
        if self._embeddings is None:
            raise RuntimeError(f"{self.name} has no image yet: call set_image(image) first.")
        self._clicks.append((int(x), int(y), bool(positive)))
        layout = self.layout
        names = [n for n in (layout.low_res_masks or layout.masks, layout.iou) if n]
        masks, *ious = self._decoder.run(names, {**self._embeddings, **self._prompts()})
        masks = masks.reshape(-1, *masks.shape[-2:])
        mask = masks[self._best(len(masks), ious)]
        if layout.low_res_masks is None:
            return self._probability(_resize(mask, self._shape))
        if layout.feeds_back:
            self._low_res = mask
        return self._probability(self._uncrop(mask))

    # -- image ---------------------------------------------------------------------------------

    def _preprocess(self, image: np.ndarray) -> np.ndarray:
        """The encoder's input; sets the size of the image within it."""
        wants = self.layout.image
        rows, cols = self._shape
        if self.layout.efficient:  # stretches by itself, or is fed the stretched image
            self._resized = wants.size or self._shape
        else:
            limit_rows, limit_cols = wants.size or (self.layout.side, self.layout.side)
            scale = min(limit_rows / rows, limit_cols / cols)
            self._resized = max(1, int(rows * scale + 0.5)), max(1, int(cols * scale + 0.5))
        return wants.pixels(_resize(image, self._resized).astype(np.float32), self.layout.side)

    def _uncrop(self, mask: np.ndarray) -> np.ndarray:
        """A mask of the encoder's square, at the size of the image.

        Done here although decoders give masks of full size too: tracing SAM's own export freezes
        the shape of the example image into that part of the graph.
        """
        square = _resize(mask.astype(np.float32, copy=False), (self.layout.side,) * 2)
        return _resize(square[: self._resized[0], : self._resized[1]], self._shape)

    # -- prompts -------------------------------------------------------------------------------

    def _prompts(self) -> dict[str, np.ndarray]:
        layout = self.layout
        clicks = self._clicks
        room = layout.points
        if room is not None and not layout.efficient:
            room -= 1  # for the padding point
        if room is not None and len(clicks) > room:
            clicks = clicks[:1] + clicks[len(clicks) - room + 1:]  # the first and the latest
        scale = (1.0, 1.0) if layout.efficient else (
            self._resized[1] / self._shape[1], self._resized[0] / self._shape[0])
        coords = np.array([(x * scale[0], y * scale[1]) for x, y, _ in clicks], np.float32)
        labels = np.array([positive for *_, positive in clicks], np.float32)
        missing = 0 if layout.efficient else 1
        if layout.fixed_points:
            missing = layout.points - len(clicks)
        fill = -1.0 if layout.efficient else 0.0
        coords = np.pad(coords, ((0, missing), (0, 0)), constant_values=fill)
        labels = np.pad(labels, (0, missing), constant_values=-1.0)
        if layout.efficient:
            values = {"batched_point_coords": coords[None, None],
                      "batched_point_labels": labels[None, None]}
        else:
            values = {"point_coords": coords[None], "point_labels": labels[None]}
        values["orig_im_size"] = np.array(self._shape)
        side, fed_back = layout.low_res, self._low_res
        values["mask_input"] = np.zeros((1, 1, side, side)) if fed_back is None \
            else fed_back[None, None]
        values["has_mask_input"] = np.array([fed_back is not None])
        return {name: value.astype(layout.dtypes[name], copy=False)
                for name, value in values.items() if name in layout.dtypes}

    # -- masks ---------------------------------------------------------------------------------

    def _best(self, number: int, ious: list[np.ndarray]) -> int:
        """Which of the decoder's masks to take.

        Four masks are SAM's: the first for several clicks, the others for one, of which the one
        with the best predicted IoU is taken. Three are the latter alone.
        """
        if number == 1:
            return 0
        if not ious:
            raise sam_layout.SamLayoutError(
                f"The decoder gives {number} masks and no iou_predictions to choose by. Export it "
                "with iou_predictions, or with one mask."
            )
        scores = ious[0].ravel()
        if number == 4:
            return 0 if len(self._clicks) > 1 else 1 + int(scores[1:].argmax())
        return int(scores.argmax())

    def _probability(self, mask: np.ndarray) -> np.ndarray:
        if mask.dtype in (np.bool_, np.uint8):
            return (mask > 0).astype(np.float32)
        return (0.5 * (1 + np.tanh(0.5 * mask.astype(np.float32)))).astype(np.float32)


def _resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(rows, cols, ...) to another number of rows and columns, bilinear."""
    import cv2

    if image.shape[:2] == tuple(shape):
        return image
    if image.dtype == np.bool_:
        image = image.astype(np.uint8)
    shrinks = shape[0] * shape[1] < image.shape[0] * image.shape[1] and image.ndim == 3
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, shape[::-1], interpolation=method)


class SamMethod(Method):
    """A pair of ONNX graphs in SAM's layout."""

    name = "sam"
    help = "sam:ENCODER.onnx,DECODER.onnx"
    takes_source = True
    further = (".onnx",)

    def title(self, source: str) -> str:
        return f"{PREFIX}{Path(source.split(',')[0]).stem}"

    def check(self, spec: ModelSpec) -> None:
        for file in spec.source.split(","):
            if not Path(file).is_file():
                raise ValueError(f"{spec.name}: there is no file {file}.")

    def build(self, spec: ModelSpec, options: Options) -> Built:
        segmenter = build(PREFIX + spec.source, options.threads)
        segmenter.name = spec.name
        return Built(spec, segmenter, engine="onnxruntime")


SAM = SamMethod()
