"""How a data set lies on the disk: its items; how pictures, masks and instance maps are read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fdrn_adapter.evaluation.datasets.sample import BadSampleError
from fdrn_adapter.images import read_image
from fdrn_adapter.label_maps import IGNORE, instance_labels

NOT_IMAGES = {".txt", ".md", ".json", ".csv", ".db", ".ini", ".yml", ".yaml"}
GRABCUT_IGNORE = 128


@dataclass(frozen=True)
class Item:
    """Where a sample is found; nothing of it is read yet.

    Attributes:
        id: of the sample; image_id: shared by the objects of one image.
        image: file.
        mask: file, None where there is none.
        label: the instance in `mask`, None for a mask of one object.
        problem: why it cannot be a sample, empty when it may be one.
    """

    id: str
    image_id: str
    image: Path
    mask: Path | None
    label: int | None = None
    problem: str = ""


# Gives image (H, W, 3) uint8 RGB and mask (H, W) with 1 the object, -1 ignored.
Read = Callable[[Item], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Layout:
    """A data set as it lies on disk, a row of `catalogue.LAYOUTS`.

    Attributes:
        name: on the command line, NAME=DIR.
        text: for messages, "{root}" stands for its folder.
        find: (root, name, layout) -> items and the function that reads one; `name` is what the
            user calls the data set.
    """

    name: str
    text: str
    find: Callable[[Path, str, "Layout"], tuple[Iterator[Item], Read]]

    def require(self, name: str, root: Path, *parts: str) -> None:
        """Raise a ValueError unless the files and folders are there."""
        for part in parts:
            if not (root / part).exists():
                raise ValueError(
                    f"{name}: there is no {root / part}. Expected: {self.text.format(root=root)}."
                )


# -- folders -----------------------------------------------------------------------------------


def files_in(folder: Path) -> list[Path]:
    """Files that are meant as pictures, sorted by name as the stock code does."""
    return sorted(
        p for p in folder.glob("*.*")
        if p.is_file() and not p.name.startswith(".") and p.suffix.lower() not in NOT_IMAGES
    )


def by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in files_in(folder)}


def names_in(path: Path) -> list[str]:
    """The lines of a list of names."""
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]


# -- files -------------------------------------------------------------------------------------


def picture(item: Item) -> np.ndarray:
    """The image of an item, (H, W, 3) uint8 RGB.

    Raises:
        BadSampleError: it cannot be read.
    """
    try:
        return read_image(item.image)
    except (ValueError, OSError) as error:
        raise BadSampleError(item.id, str(error)) from error


def pixels(item: Item, colour: bool = True) -> np.ndarray:
    """The mask file of an item: (H, W, 3) uint8 BGR, or with colour=False as it is stored.

    Raises:
        BadSampleError: there is none, or it cannot be read.
    """
    if item.mask is None:
        raise BadSampleError(item.id, f"there is no mask for {item.image.name}")
    found = read_pixels(item.mask, colour)
    if found is None:
        raise BadSampleError(item.id, f"the mask {item.mask} cannot be read as an image")
    return found


def read_pixels(path: Path, colour: bool) -> np.ndarray | None:
    """An image file as OpenCV decodes it, None if it does not."""
    import cv2  # slow to import, and the names of data sets are wanted without it

    if not path.is_file() or not path.stat().st_size:
        return None
    flags = cv2.IMREAD_COLOR if colour else cv2.IMREAD_UNCHANGED
    return cv2.imdecode(np.fromfile(path, np.uint8), flags)


# -- masks -------------------------------------------------------------------------------------


def trimap(mask: np.ndarray) -> np.ndarray:
    """GrabCut's values: above 128 the object, 128 ignored, 1 the object too (stock code)."""
    labels = mask.astype(np.int32)
    labels[mask == GRABCUT_IGNORE] = IGNORE
    labels[mask > GRABCUT_IGNORE] = 1
    return labels


def items_of_labels(
    name: str, image: Path, mask: Path | None, stored: np.ndarray | None
) -> Iterator[Item]:
    """One sample for each instance of a map, or one with the reason why there is none."""
    if stored is None:
        problem = f"the instance map {mask} cannot be read" if mask else \
            f"there is no instance map for {image.name}"
        yield Item(name, name, image, mask, problem=problem)
        return
    labels = np.unique(instance_labels(stored))
    labels = labels[labels > 0]
    if not labels.size:
        yield Item(name, name, image, mask, problem="the instance map has no object")
    for label in labels.tolist():
        yield Item(f"{name}#{label}", name, image, mask, label)


def one_instance(labels: np.ndarray, label: int) -> np.ndarray:
    """1 where the instance is, -1 where the map is void, else 0."""
    return np.where(labels == label, 1, np.where(labels == IGNORE, IGNORE, 0))


def read_instance(item: Item) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask of an item whose label is an instance of its map."""
    return picture(item), one_instance(instance_labels(pixels(item, colour=False)), item.label)
