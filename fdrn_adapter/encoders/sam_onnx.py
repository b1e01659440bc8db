"""A SAM-layout image encoder in an ONNX file as frozen F1: `encoder="onnx:FILE"`.

Its embedding (256 channels, cell j on pixel 16 j of an image whose longest side is 1024 pixels) is
reduced to 96 components and recycled. The file is the user's: it is neither part of the package
nor of checkpoints, which name it and its checksum. Embeddings of one space are interchangeable, so
another encoder of that space is a warning, not an error.
"""

import logging
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fdrn_adapter.encoders import sam_image, sam_space
from fdrn_adapter.encoders.backbone import EMBEDDING, Backbone, EncoderFamily, Tap
from fdrn_adapter.encoders.onnx_file import PREFIX, VARIABLE, file_of
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.hosts.description import HostInfo
from fdrn_adapter.output_folders import checksum

logger = logging.getLogger(__name__)

SIDE, STRIDE = 1024, 16


class SamOnnx(Backbone):
    """See the top of this file.

    Args:
        name: what stands behind "onnx:": a path, or nothing, or, out of a checkpoint, the bare name
            of the file it was trained with. For the last two the file of the variable
            FDRN_SAM_ENCODER is taken; where it is not set, the model works on embeddings that are
            given to it alone (`fdrn_adapter.features_from_embedding`).

    Raises:
        ValueError: the file is no SAM-layout image encoder.
    """

    offers = (EMBEDDING,)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # `sam_image` normalises
    side = SIDE
    runs_itself = True

    def __init__(self, name: str):
        super().__init__()
        self.reduce = sam_space.reduction()
        self.taps[EMBEDDING] = Tap("reduce", sam_space.CHANNELS, Grid(STRIDE))
        self.file_name = Path(name).name or "of SAM or its like"
        self.path = _found(name)
        self.sha256 = "" if self.path is None else checksum(self.path)
        self._runs: dict[tuple[str, int], Any] = {}
        self._lock = threading.Lock()

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """x: (B, 3, h, w), RGB in [0, 1], longest side 1024. Returns (B, 96, h/16, w/16)."""
        return (self.components_of(self.embedding(x), tuple(x.shape[-2:])),)

    def maps_in(self, engine: str, x: Tensor, threads: int) -> dict[str, Tensor]:
        """What `ImageEncoder.maps` gives, the graph being run in an engine, on so many threads."""
        with torch.no_grad():
            embedding = self.embedding(x, engine, threads)
            return {EMBEDDING: self.components_of(embedding, tuple(x.shape[-2:]))}

    def components_of(self, embedding: Tensor, size: tuple[int, int]) -> Tensor:
        """The recycled map out of embeddings (B, 256, 64, 64) of images of `size` within them."""
        rows, cols = (-(-length // STRIDE) for length in size)
        return self.reduce(embedding[..., :rows, :cols].to(self.reduce.weight))

    def start(self) -> str:
        return self.file_name if self.path is None else self.path.name

    def embedding(self, x: Tensor, engine: str = "", threads: int | None = None) -> Tensor:
        """The graph's own output, (B, 256, 64, 64).

        Args:
            x: see `forward`.
            engine: "openvino" or "onnxruntime"; whichever is installed where empty.
            threads: None for torch's number in the caller's thread.

        Raises:
            RuntimeError: there is no file.
        """
        run, wants = self._run(engine, threads or torch.get_num_threads())
        images = x.detach().cpu().float().permute(0, 2, 3, 1).numpy() * 255
        made = [run(wants.pixels(image, SIDE)) for image in images]
        return torch.from_numpy(np.concatenate(made)).to(x.device)

    def interface(self) -> tuple[str, sam_image.ImageInput]:
        """Name of the graph's output that is the embedding, and what its input is.

        Raises:
            RuntimeError: there is no file.
        """
        self.require_file()
        return _opened(self.path, torch.get_num_threads())[1:]

    def require_file(self) -> None:
        """As `Backbone.require_file`."""
        if self.path is None:
            raise RuntimeError(
                f"The image encoder {self.file_name} is not at hand. Name its file in the variable "
                f"{VARIABLE} (MobileSAM's, for one), or give embeddings that you have by "
                "fdrn_adapter.features_from_embedding(model, embedding, image_size)."
            )

    def _run(self, engine: str, threads: int) -> tuple[Any, sam_image.ImageInput]:
        self.require_file()
        with self._lock:
            if (engine, threads) not in self._runs:
                self._runs[engine, threads] = _compiled(self.path, engine, threads)
            return self._runs[engine, threads]

    def __deepcopy__(self, memo: dict) -> "SamOnnx":
        made = SamOnnx(str(self.path or self.file_name))
        made.file_name, made.sha256 = self.file_name, self.sha256
        made.to(self.reduce.weight.device, self.reduce.weight.dtype)
        made.train(self.training)
        memo[id(self)] = made
        return made

    def __getstate__(self) -> dict:
        return {**super().__getstate__(), "_runs": {}, "_lock": None}

    def __setstate__(self, state: dict) -> None:
        super().__setstate__({**state, "_lock": threading.Lock()})


def _found(name: str) -> Path | None:
    """The file of a path, or, for a bare name, that of the variable; None where that is not set."""
    return file_of(PREFIX + name if os.sep in name else PREFIX)


def _compiled(path: Path, engine: str, threads: int) -> tuple[Any, sam_image.ImageInput]:
    """A function from the graph's input to its embedding, and what the input is."""
    session, output, wants = _opened(path, threads)
    if engine == "openvino":
        made = _in_openvino(path, output, wants.name, threads)
        if made is not None:
            return made, wants
    return lambda pixels: session.run([output], {wants.name: pixels})[0], wants


def _opened(path: Path, threads: int) -> tuple[Any, str, sam_image.ImageInput]:
    """A session of the graph, the name of its embedding, and what its input is."""
    try:
        import onnxruntime  # an optional package
    except ImportError as error:
        raise ValueError(
            f"encoder='{PREFIX}...' needs onnxruntime: pip install 'fdrn_adapter[onnxruntime]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        wants = sam_image.read_image_input(session, path)
    except Exception as error:  # onnxruntime's exceptions have no class in common
        raise ValueError(f"{path} is not an image encoder that can be run: {error}") from error
    outputs = [o.name for o in session.get_outputs() if _is_embedding(o.shape)]
    if len(outputs) != 1:
        shapes = ", ".join(f"{o.name} {list(o.shape)}" for o in session.get_outputs())
        raise ValueError(
            f"{path} gives {shapes}; expected one embedding ({sam_space.SAM_CHANNELS}, 64, 64)."
        )
    return session, outputs[0], wants


def _in_openvino(path: Path, output: str, name: str, threads: int) -> Any:
    try:
        import openvino  # an optional package
    except ImportError:
        return None
    core = openvino.Core()
    options = {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,  # of processes beside each other, all were on the same core
    }
    compiled = core.compile_model(core.read_model(path), "CPU", options)
    lock = threading.Lock()

    def run(pixels: np.ndarray) -> np.ndarray:
        with lock:
            return np.array(compiled({name: pixels})[output])

    return run


def _is_embedding(shape: list) -> bool:
    """(1, 256, 64, 64), whatever of it the graph says."""
    wanted = (1, sam_space.SAM_CHANNELS, SIDE // STRIDE, SIDE // STRIDE)
    return len(shape) == 4 and all(
        s == w or not isinstance(s, int) for s, w in zip(shape, wanted, strict=True)
    )


class SamOnnxFamily(EncoderFamily):
    """The row of `onnx:FILE`."""

    name = "onnx"
    prefix = PREFIX
    embeds = frozen = True
    help = "a SAM-layout image encoder in a file"

    def public_name(self, encoder: str) -> str:
        return PREFIX + Path(encoder.removeprefix(PREFIX)).name

    def may_stand_in_files(self, encoder: str) -> bool:
        # A bare name: which file that is, the user says.
        return re.fullmatch(PREFIX + "([A-Za-z0-9][A-Za-z0-9_.-]*)?", encoder) is not None

    def full_name(self, encoder: str) -> str:
        if encoder == PREFIX:
            return encoder
        path = file_of(encoder)
        assert path is not None
        return PREFIX + str(path.resolve())

    def build(
        self, encoder: str, host: Any, info: HostInfo, b_low: int | None, b_high: int | None
    ) -> Backbone:
        return SamOnnx(encoder.removeprefix(PREFIX))


SAM_ONNX = SamOnnxFamily()
