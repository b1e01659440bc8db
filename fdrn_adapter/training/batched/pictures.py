"""One image with its objects, brought to one size and kept on disk."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fdrn_adapter.images import read_image
from fdrn_adapter.label_maps import IGNORE
from fdrn_adapter.output_folders import checksum, whole_file

SIDE = 512  # longest side of kept pictures, pixels
VOID = 255  # label of what does not count, in kept pictures
MOST_OBJECTS = VOID - 1
MIN_SHARE, MAX_SHARE = 0.004, 0.85  # of the picture that an object covers
_FORMAT = 1


@dataclass(frozen=True)
class Picture:
    """Where an image and its objects are found; nothing of them is read yet.

    Attributes:
        name: for messages.
        image: file.
        labels: gives (H, W) int32: 0 background, 1, 2 ... objects, -1 what does not count. Raises
            a ValueError where it cannot. A function of a module, so that processes can have it.
        stamp: changes when what `labels` reads does.
        source: number of the data set that it is of.
    """

    name: str
    image: Path
    labels: Callable[[], np.ndarray]
    stamp: str
    source: int = 0


@dataclass(frozen=True)
class KeptPicture:
    """A picture that `keep` has prepared.

    Attributes:
        name, source, image: as of the Picture.
        file: (4, h, w) uint8, RGB and labels, longest side SIDE.
        image_sha256: of the image's file.
        objects: (label, rmin, rmax, cmin, cmax) of each, inclusive, in pixels of `file`.
        size: rows and columns of `file`.
    """

    name: str
    source: int
    image: Path
    file: Path
    image_sha256: str
    objects: tuple[tuple[int, ...], ...]
    size: tuple[int, int]

    def pixels(self) -> np.ndarray:
        """(4, h, w) uint8, mapped into memory: read only."""
        return np.load(self.file, mmap_mode="r")


def stamp_of(*files: Path) -> str:
    """A text that changes when a file does."""
    parts = []
    for file in files:
        stat = file.stat()
        parts.append(f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns}")
    return "\n".join(parts)


def keep(picture: Picture, folder: Path, min_share: float = MIN_SHARE) -> KeptPicture:
    """Prepare a picture, or find that it is prepared already.

    A file is there whole or not at all, so that this may be interrupted at any time.

    Args:
        folder: where to keep it; it exists.
        min_share: objects that cover less of the image are none.

    Raises:
        ValueError: image and labels cannot be read, or are of different size.
    """
    text = f"{_FORMAT}\n{SIDE}\n{min_share}\n{stamp_of(picture.image)}\n{picture.stamp}"
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    file, note = folder / f"{key}.npy", folder / f"{key}.json"
    if note.is_file() and file.is_file():
        stored = json.loads(note.read_text())
    else:
        pixels, objects = _prepared(picture, min_share)
        write_whole_array(file, pixels)
        stored = {
            "image_sha256": checksum(picture.image), "objects": objects,
            "size": list(pixels.shape[1:]),
        }
        write_whole_text(note, json.dumps(stored))
    return KeptPicture(
        picture.name, picture.source, picture.image, file, stored["image_sha256"],
        tuple(map(tuple, stored["objects"])), tuple(stored["size"]),
    )


def _prepared(picture: Picture, min_share: float) -> tuple[np.ndarray, list[list[int]]]:
    image, labels = read_image(picture.image), picture.labels()
    if labels.shape != image.shape[:2]:
        raise ValueError(
            f"{picture.name}: the image has {image.shape[0]} rows and {image.shape[1]} columns, "
            f"its labels {labels.shape[0]} and {labels.shape[1]}."
        )
    rows, cols = size_within(image.shape[:2], SIDE)
    small = cv2.resize(image, (cols, rows), interpolation=cv2.INTER_AREA)
    names = cv2.resize(
        _few(labels).astype(np.uint8), (cols, rows), interpolation=cv2.INTER_NEAREST
    )
    objects = []
    for label in np.unique(names[(names > 0) & (names != VOID)]).tolist():
        mask = names == label
        if min_share <= mask.mean() <= MAX_SHARE:
            at = [np.flatnonzero(mask.any(axis=1 - axis)) for axis in (0, 1)]
            objects.append([label, *(int(line[end]) for line in at for end in (0, -1))])
    return np.concatenate([small.transpose(2, 0, 1), names[None]]), objects


def _few(labels: np.ndarray) -> np.ndarray:
    """(H, W) with labels 0, 1 ... 254 and VOID; of more objects the largest have one of their own.
    """
    values, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
    ranks = np.zeros(len(values), np.int64)
    objects = np.flatnonzero(values > 0)
    largest = objects[np.argsort(-counts[objects], kind="stable")][:MOST_OBJECTS]
    ranks[objects] = VOID  # too many
    ranks[largest] = np.arange(1, len(largest) + 1)
    ranks[values == IGNORE] = VOID
    return ranks[inverse].reshape(labels.shape)


def size_within(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Rows and columns of an image of `size` with its longest side at `side` pixels."""
    longest = max(size)
    rows, cols = (max(1, round(length * side / longest)) for length in size)
    return rows, cols


def write_whole_array(file: Path, array: np.ndarray) -> None:
    """Write a .npy file that is there whole or not at all."""
    with whole_file(file) as part, part.open("wb") as opened:
        np.save(opened, np.ascontiguousarray(array))


def write_whole_text(file: Path, text: str) -> None:
    """Write a text file that is there whole or not at all."""
    with whole_file(file) as part:
        part.write_text(text, encoding="utf-8")


def from_label_map(labels: Any) -> np.ndarray:
    """(H, W) int32 out of labels of any integers: objects 1, 2 ... in ascending order."""
    labels = np.asarray(labels)
    values, inverse = np.unique(labels, return_inverse=True)
    numbers = np.where(values == IGNORE, IGNORE, np.cumsum(values > 0) * (values > 0))
    return numbers[inverse].reshape(labels.shape).astype(np.int32)
