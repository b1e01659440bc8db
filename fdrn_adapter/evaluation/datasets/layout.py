"""How a data set lies on the disk: its items, and how they are read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fdrn_adapter.evaluation.datasets.sample import BadSampleError
from fdrn_adapter.images import read_image


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

Read = Callable[[Item], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Attributes:
        text: for messages, "{root}" stands for its folder.
        find: (root, name, layout) -> items and the function that reads one.
    """

    text: str
    find: Callable[[Path, str, "Layout"], tuple[Iterator[Item], Read]]

    def require(self, name: str, root: Path, *parts: str) -> None:
        """Raise a ValueError unless the files and folders are there."""
        for part in parts:
            if not (root / part).exists():
                raise ValueError(
                    f"{name}: there is no {root / part}. Expected: {self.text.format(root=root)}."
                )


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
    import cv2

    if not path.is_file() or not path.stat().st_size:
        return None
    flags = cv2.IMREAD_COLOR if colour else cv2.IMREAD_UNCHANGED
    return cv2.imdecode(np.fromfile(path, np.uint8), flags)
