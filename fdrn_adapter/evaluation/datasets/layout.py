"""How a data set lies on the disk: its items; how pictures, masks and instance maps are read."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fdrn_adapter.evaluation.datasets.sample import BadSampleError
from fdrn_adapter.image_folders import printable
from fdrn_adapter.images import read_image
from fdrn_adapter.label_maps import (
    AUTO,
    IGNORE,
    instance_labels,
    is_lossy,
    read_label_map,
    what_255_is,
    why_no_labels,
)

logger = logging.getLogger(__name__)


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

    def __post_init__(self) -> None:
        # File names need not be text; what is written down has to be.
        for field in ("id", "image_id", "problem"):
            object.__setattr__(self, field, printable(getattr(self, field)))


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


def pixels(item: Item, colours: bool = False) -> np.ndarray:
    """The mask file of an item as it is stored, see `label_maps.read_label_map`.

    Raises:
        BadSampleError: there is none, or it cannot be read.
    """
    if item.mask is None:
        raise BadSampleError(item.id, f"there is no mask for {item.image.name}")
    try:
        return read_label_map(item.mask, colours)
    except (ValueError, OSError) as error:
        raise BadSampleError(
            item.id, f"the mask {item.mask} cannot be read as an image: {error}"
        ) from error


# -- instance maps -----------------------------------------------------------------------------


def items_of_labels(
    name: str, image: Path, mask: Path | None, void: str = AUTO, told: set[str] | None = None
) -> Iterator[Item]:
    """One sample for each instance of a map, or one with the reason why there is none.

    Args:
        name: of the image.
        image, mask: files.
        void: see `label_maps.instance_labels`.
        told: what was said of the value 255 in maps before; None to say nothing.
    """
    if mask is None:
        yield Item(name, name, image, None, problem=f"there is no instance map for {image.name}")
        return
    try:
        stored = read_label_map(mask)
        labels = instance_labels(stored, void)
        problem = why_no_labels(labels, is_lossy(mask))
    except ValueError as error:
        yield Item(name, name, image, mask,
                   problem=f"the instance map {mask} cannot be read: {error}")
        return
    _tell(mask, stored, void, told)
    found = np.unique(labels)
    found = found[found > 0]
    if problem or not found.size:
        yield Item(name, name, image, mask, problem=problem or "the instance map has no object")
        return
    for label in found.tolist():
        yield Item(f"{name}#{label}", name, image, mask, label)


def _tell(mask: Path, stored: np.ndarray, void: str, told: set[str] | None) -> None:
    taken = what_255_is(stored) if void == AUTO and told is not None else ""
    if taken and taken not in told:
        told.add(taken)
        logger.warning(
            "%s and others like it: 255 is taken for %s; where it is an object like any other, "
            "write folder255:DIR instead of folder:DIR", mask, taken,
        )


def one_instance(labels: np.ndarray, label: int) -> np.ndarray:
    """1 where the instance is, -1 where the map is void, else 0."""
    return np.where(labels == label, 1, np.where(labels == IGNORE, IGNORE, 0))


def read_instance(item: Item, void: str = AUTO) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask of an item whose label is an instance of its map."""
    return picture(item), one_instance(instance_labels(pixels(item), void), item.label)
