"""Any folder of images with masks or instance maps: "folder:DIR", the layout for data of one's own.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fdrn_adapter.evaluation.datasets.layout import (
    Item,
    Layout,
    Read,
    items_of_labels,
    picture,
    pixels,
    read_instance,
)
from fdrn_adapter.evaluation.datasets.sample import BadSampleError
from fdrn_adapter.image_folders import Masks, files_in, names_of
from fdrn_adapter.label_maps import AUTO, NEVER, trimap, why_no_object

NAME = "folder"
NAME_255 = "folder255"  # 255 in instance maps is an object like any other
IMAGE_FOLDERS = ("images", "img", "image", "data_GT", "JPEGImages")
MASK_FOLDERS = ("masks", "mask", "gt", "boundary_GT")
INSTANCE_FOLDERS = ("instances", "inst", "SegmentationObject", "labels")


def _first(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _find_folder(
    root: Path, name: str, layout: Layout, void: str = AUTO
) -> tuple[Iterator[Item], Read]:
    images, masks = _first(root, IMAGE_FOLDERS), _first(root, MASK_FOLDERS)
    instances = _first(root, INSTANCE_FOLDERS)
    if images is None or (masks is None and instances is None):
        missing = f"images ({', '.join(IMAGE_FOLDERS)})" if images is None else (
            f"masks ({', '.join(MASK_FOLDERS)}) or instance maps ({', '.join(INSTANCE_FOLDERS)})"
        )
        raise ValueError(
            f"{name}: {root} has no folder of {missing}. Expected: {layout.text.format(root=root)}."
        )
    if masks is not None:
        return _mask_items(images, masks), _read_mask
    read = functools.partial(read_instance, void=void)
    return _instance_items(images, instances, void), read


def _mask_items(images: Path, masks: Path) -> Iterator[Item]:
    """One sample for each mask; an image may have several, named IMAGE_1, IMAGE_2 ..."""
    files = files_in(images)
    found = Masks(masks, files)
    found.require_any(several=True)
    for name, path in zip(names_of(files), files, strict=True):
        own, several = found.of(path), found.all_of(path)
        if own is not None or not several:
            yield Item(name, name, path, own)
            continue
        for mask in several:
            yield Item(name + mask.stem.removeprefix(path.stem), name, path, mask)


def _read_mask(item: Item) -> tuple[np.ndarray, np.ndarray]:
    stored = pixels(item)
    reason = why_no_object(stored)
    if reason:
        raise BadSampleError(item.id, reason)
    return picture(item), trimap(stored, soft=True)


def _instance_items(images: Path, maps: Path, void: str) -> Iterator[Item]:
    files = files_in(images)
    found = Masks(maps, files)
    found.require_any(several=False)
    told: set[str] = set()
    for name, path in zip(names_of(files), files, strict=True):
        yield from items_of_labels(name, path, found.of(path), void, told)


_TEXT = (
    "{root}/images/ with images, and either {root}/masks/ with masks of the same names (one "
    "object: above 128, or 1; 128 ignored; several objects: NAME_1.png, NAME_2.png) or "
    "{root}/instances/ with instance maps (0 background, a value or colour for each object)"
)
FOLDER = Layout(NAME, _TEXT, _find_folder)
FOLDER_255 = Layout(NAME_255, _TEXT, functools.partial(_find_folder, void=NEVER))
