"""Files of `fdrn export` in the benchmark, driven by the program that comes with them."""

from pathlib import Path

import numpy as np

from fdrn_adapter.evaluation.methods.method import Built, Method, ModelSpec, Options


class ExportedSegmenter:
    """An exported network; the crop, the zoom-in and the precision are the files' own.

    Args:
        name: see `Segmenter`.
        folder: what `fdrn export` wrote.
        threads: of ONNX Runtime; None for its own choice.

    Raises:
        ValueError: onnxruntime is missing, the files are not those that meta.json is about, or
            they are FocalClick's, whose second stage the program does not run.
    """

    def __init__(self, name: str, folder: str | Path, threads: int | None = None):
        try:
            import onnxruntime

            from fdrn_adapter.examples import onnx_click  # imports onnxruntime
        except ImportError as error:
            raise ValueError(
                f"{name} needs onnxruntime, which is not installed: pip install "
                "'fdrn_adapter[onnxruntime]'."
            ) from error
        options = onnxruntime.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        self.name = name
        try:
            self._clicker = onnx_click.Clicker(folder, sess_options=options)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error

    def set_image(self, image: np.ndarray) -> None:
        self._clicker.set_image(image)

    def start_object(self) -> None:
        self._clicker.start_object()

    def add_click(self, x: int, y: int, positive: bool) -> np.ndarray:
        return self._clicker.click(x, y, positive)


class ExportedMethod(Method):
    """A folder that `fdrn export` wrote."""

    name = "onnx"
    help = "onnx:DIR of fdrn export"
    takes_source = True

    def check(self, spec: ModelSpec) -> None:
        if not (Path(spec.source) / "meta.json").is_file():
            raise ValueError(
                f"{spec.name}: {spec.source} should be a folder that `fdrn export --out` wrote; it "
                "has no meta.json."
            )

    def build(self, spec: ModelSpec, options: Options) -> Built:
        segmenter = ExportedSegmenter(spec.name, spec.source, options.threads)
        return Built(spec, segmenter, engine="onnxruntime")


ONNX = ExportedMethod()
