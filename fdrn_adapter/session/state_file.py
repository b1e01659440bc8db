"""A session's objects in a file: names, clicks, masks and settings, but no features."""

import contextlib
import io
import json
import logging
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter import schemas
from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.features.cache import content_key
from fdrn_adapter.output_folders import whole_file

logger = logging.getLogger(__name__)

FORMAT = "fdrn_adapter.SessionState/1"


class StateFile:
    """What InteractiveSession does with files of its state."""

    def save_state(self, path: str | Path) -> None:
        """Write the objects of the current image to a file that `load_state` reads.

        Kept are names, order, clicks and masks, and what the objects started from. Undone clicks
        are not, nor is the image itself.

        Args:
            path: a file, .npz by custom; written aside first, so that it is whole or not there.

        Raises:
            RuntimeError: no image is set.
        """
        self._require_image()
        arrays, objects = {}, []
        for number, o in enumerate(self._objects):
            first, now = o.history[0], o.history[o.now]
            clicks = [[c.x, c.y, c.positive] for c in now.clicks]
            masked = first.prob is not None and o.box is None
            objects.append({"name": o.name, "clicks": clicks, "box": o.box, "masked": masked})
            arrays[f"mask_{number}"] = np.packbits(now.mask(self.threshold))
            if masked:
                arrays[f"start_{number}"] = first.prob
        state = {
            "format": FORMAT, "image": content_key(self.image), "size": self.image.shape[:2],
            "objects": objects, "current": self.current_object, **self._settings(),
        }
        _write(Path(path), {"state": np.frombuffer(json.dumps(state).encode(), np.uint8), **arrays})

    def load_state(self, path: str | Path) -> None:
        """Go on with objects that were saved: the clicks are made again, one by one.

        The image has to be set before. What the session had of it is replaced. Where a mask
        differs from the saved one, as with another network, that is logged as a warning.

        Raises:
            RuntimeError: no image is set.
            CheckpointError: not such a file.
            ValueError: saved for another image. The session stays as it was in any case.
        """
        self._require_image()
        with _opened(Path(path)) as file:
            state = _read_state(file, path)
        if state["image"] != content_key(self.image):
            rows, cols = state["size"]
            raise ValueError(
                f"{path} was saved for another image, of {cols} x {rows} pixels: call "
                "set_image with that one first."
            )
        with _opened(Path(path)) as file:
            starts, masks = _read_maps(file, state["objects"], self.image.shape[:2])
        self._objects = []
        for saved, start, mask in zip(state["objects"], starts, masks, strict=True):
            self._load_object(saved, start, mask)
        self.select_object(state["current"])
        for name, value in self._settings().items():
            if state.get(name) != value:
                logger.warning("%s was %s when %s was saved, it is %s now",
                               name, state.get(name), path, value)

    def _load_object(
        self, saved: dict, start: np.ndarray | None, before: np.ndarray
    ) -> None:
        self.add_object(saved["name"])
        if saved["box"] is not None:
            self.set_box(*saved["box"])
        elif start is not None:
            self.set_mask(start)
        made = len(self.clicks)  # by the box; some may have been undone
        self.keep_clicks(min(made, len(saved["clicks"])))
        mask = self.add_clicks(saved["clicks"][made:])
        if differing := int((before != mask).sum()):
            logger.warning("%s: %d pixels differ from the saved mask", saved["name"], differing)

    def _settings(self) -> dict[str, Any]:
        return {"engine": self.engine, "threshold": self.threshold}


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with whole_file(path) as aside, open(aside, "wb") as file:
        np.savez_compressed(file, **arrays)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The file, with one kind of error for all that can be wrong with it."""
    try:
        with zipfile.ZipFile(path) as file:
            yield file
    except (FileNotFoundError, CheckpointError):
        raise
    except _DAMAGES as error:
        raise CheckpointError(
            f"{path} does not hold the state of a session, or it is damaged ({error}); write one "
            "with save_state."
        ) from error


def _read_state(file: zipfile.ZipFile, path: str | Path) -> dict[str, Any]:
    try:
        state = json.loads(_array(file, "state", _MOST_TEXT).tobytes())
    except (ValueError, RecursionError) as error:
        raise zipfile.BadZipFile(f"its settings are no JSON: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise zipfile.BadZipFile("it is of another format")
    schemas.require(state, str(path), _FIELDS)
    for saved in state["objects"]:
        schemas.require(saved, f"{path}: an object", _OBJECT)
    names = [saved["name"] for saved in state["objects"]]
    if state["current"] not in names or len(set(names)) < len(names):
        raise zipfile.BadZipFile("names of its objects stand twice, or the current one is none")
    return state


def _read_maps(
    file: zipfile.ZipFile, objects: list[dict], size: tuple[int, int]
) -> tuple[list[np.ndarray | None], list[np.ndarray]]:
    """What objects started from, and their masks (H, W) bool."""
    pixels, starts, masks = size[0] * size[1], [], []
    for number, saved in enumerate(objects):
        places = [*saved["clicks"], *([saved["box"][:2], saved["box"][2:]] if saved["box"] else [])]
        if not all(x < size[1] and y < size[0] for x, y, *_ in places):
            raise zipfile.BadZipFile(f"object {saved['name']!r} lies outside of the image")
        packed = _array(file, f"mask_{number}", pixels)
        if packed.dtype != np.uint8 or packed.shape != (-(-pixels // 8),):
            raise zipfile.BadZipFile(f"mask_{number} is no mask of this image")
        masks.append(np.unpackbits(packed, count=pixels).view(bool).reshape(size))
        start = None
        if saved["masked"] and saved["box"] is None:
            start = _array(file, f"start_{number}", pixels * 4)
            if start.dtype != np.float32 or start.shape != tuple(size) \
                    or not (start.min() >= 0 and start.max() <= 1):
                raise zipfile.BadZipFile(f"start_{number} holds no probabilities of this image")
        starts.append(start)
    return starts, masks


def _array(file: zipfile.ZipFile, name: str, nbytes: int) -> np.ndarray:
    """An array of a npz file that takes so many bytes at most."""
    part = file.getinfo(f"{name}.npy")
    if part.file_size > nbytes + _HEADER:
        raise zipfile.BadZipFile(f"{name} has {part.file_size} bytes; {nbytes} are the most")
    data = io.BytesIO(file.read(part))
    version = np.lib.format.read_magic(data)
    read = {(1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, _, dtype = read(data)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > nbytes:
        raise zipfile.BadZipFile(f"{name} is {shape} of {dtype}")
    data.seek(0)
    return np.lib.format.read_array(data, allow_pickle=False)


def _clicks(value: Any) -> None:
    def is_click(click: Any) -> bool:
        return isinstance(click, list) and len(click) == 3 and all(
            isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**31 for n in click[:2]
        ) and isinstance(click[2], bool)

    if not isinstance(value, list) or not all(map(is_click, value)):
        raise schemas.Unfit("clicks [x, y, positive]")


def _box(value: Any) -> None:
    if value is not None and not (isinstance(value, list) and len(value) == 4 and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**31 for n in value
    )):
        raise schemas.Unfit("a box [x1, y1, x2, y2] or nothing")


def _objects(value: Any) -> None:
    if not isinstance(value, list) or not value:
        raise schemas.Unfit("a list of objects")


def _yes_or_no(value: Any) -> None:
    if not isinstance(value, bool):
        raise schemas.Unfit("true or false")


def _share(value: Any) -> None:
    if not isinstance(value, float) or not 0 < value < 1:
        raise schemas.Unfit("between 0 and 1")


_FIELDS = {
    "format": schemas.text, "image": schemas.text, "size": schemas.size, "objects": _objects,
    "current": schemas.text, "engine": schemas.text, "threshold": _share,
}
_OBJECT = {"name": schemas.text, "clicks": _clicks, "box": _box, "masked": _yes_or_no}
_MOST_TEXT = 64 * 2**20  # bytes of clicks and settings
_HEADER = 16_384  # bytes of an array's own
_DAMAGES = (
    zipfile.BadZipFile, KeyError, ValueError, EOFError, OSError, RuntimeError, NotImplementedError,
    zlib.error, struct.error, MemoryError,
)
