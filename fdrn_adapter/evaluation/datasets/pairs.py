"""GrabCut, Berkeley, DAVIS and COCO_MVal: a folder of images beside one of masks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fdrn_adapter.evaluation.datasets.layout import (
    Item,
    Layout,
    Read,
    picture,
    pixels,
)
from fdrn_adapter.image_folders import Masks, files_in, names_of
from fdrn_adapter.label_maps import one_object, trimap


def _pairs(images: Path, masks: Path) -> Iterator[Item]:
    """One object an image."""
    files = files_in(images)
    found = Masks(masks, files)
    found.require_any(several=False)
    for name, path in zip(names_of(files), files, strict=True):
        yield Item(name, name, path, found.of(path))


def _read_trimap(item: Item) -> tuple[np.ndarray, np.ndarray]:
    return picture(item), trimap(pixels(item))


def _read_any(item: Item) -> tuple[np.ndarray, np.ndarray]:
    return picture(item), one_object(pixels(item))


def _layout(name: str, images: str, masks: str, values: str, read: Read) -> Layout:
    def find(root: Path, name: str, layout: Layout) -> tuple[Iterator[Item], Read]:
        layout.require(name, root, images, masks)
        return _pairs(root / images, root / masks), read

    text = f"{{root}}/{images}/ with images and {{root}}/{masks}/ with masks of the same names"
    return Layout(name, f"{text} ({values})", find)


_TRIMAP, _ANY = "0 background, 128 ignored, 255 object", "above 0: object"
GRABCUT = _layout("GrabCut", "data_GT", "boundary_GT", _TRIMAP, _read_trimap)
BERKELEY = _layout("Berkeley", "images", "masks", _TRIMAP, _read_trimap)
DAVIS = _layout("DAVIS", "img", "gt", _ANY, _read_any)
COCO_MVAL = _layout("COCO_MVal", "img", "gt", _ANY, _read_any)
