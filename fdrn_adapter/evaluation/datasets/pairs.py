"""GrabCut, Berkeley, DAVIS and COCO_MVal: a folder of images beside one of masks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fdrn_adapter.evaluation.datasets.layout import (
    Item,
    Layout,
    Read,
    by_stem,
    files_in,
    picture,
    pixels,
    trimap,
)
from fdrn_adapter.label_maps import one_object


def _pairs(images: Path, masks: Path) -> Iterator[Item]:
    """One object an image; the mask has the image's name up to the first dot."""
    found = by_stem(masks)
    for path in files_in(images):
        mask = found.get(path.name.split(".")[0]) or found.get(path.stem)
        yield Item(path.stem, path.stem, path, mask)


def _read_trimap(item: Item) -> tuple[np.ndarray, np.ndarray]:
    return picture(item), trimap(pixels(item)[:, :, 0])


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
