"""A session's objects in a file: names, clicks, masks and settings, but no features."""

import json
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.features.cache import content_key

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
        state, arrays = _read(Path(path))
        if state["image"] != content_key(self.image):
            rows, cols = state["size"]
            raise ValueError(
                f"{path} was saved for another image, of {cols} x {rows} pixels: call "
                "set_image with that one first."
            )
        before = self._objects, self._index
        try:
            self._objects = []
            for number, saved in enumerate(state["objects"]):
                self._load_object(number, saved, arrays)
            self.select_object(state["current"])
        except BaseException as error:
            self._objects, self._index = before
            self._restore()
            if isinstance(error, KeyError | TypeError | IndexError):
                raise CheckpointError(f"{path}: the state in it is damaged ({error!r}).") from error
            raise
        for name, value in self._settings().items():
            if state.get(name) != value:
                logger.warning("%s was %s when %s was saved, it is %s now",
                               name, state.get(name), path, value)

    def _load_object(self, number: int, saved: dict, arrays: dict[str, np.ndarray]) -> None:
        self.add_object(saved["name"])
        if saved["box"] is not None:
            self.set_box(*saved["box"])
        elif saved["masked"]:
            self.set_mask(arrays[f"start_{number}"])
        made = len(self.clicks)  # by the box; some may have been undone
        self.keep_clicks(min(made, len(saved["clicks"])))
        mask = self.add_clicks(saved["clicks"][made:])
        before = np.unpackbits(arrays[f"mask_{number}"], count=mask.size).view(bool)
        if differing := int((before.reshape(mask.shape) != mask).sum()):
            logger.warning("%s: %d pixels differ from the saved mask", saved["name"], differing)

    def _settings(self) -> dict[str, Any]:
        return {"engine": self.engine, "threshold": self.threshold}


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    aside = path.with_name(path.name + ".part")
    try:
        with open(aside, "wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
        state = json.loads(arrays.pop("state").tobytes())
        if state["format"] != FORMAT:
            raise ValueError(f"format {state['format']!r}")
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} does not hold the state of a session ({error}); write one with save_state."
        ) from error
    return state, arrays
