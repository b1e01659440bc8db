"""Any folder of images with masks or instance maps: "folder:DIR", the layout for data of one's own.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fdrn_adapter.evaluation.datasets.layout import (
    Item,
    Layout,
    Read,
    by_stem,
    files_in,
    items_of_labels,
    picture,
    pixels,
    read_instance,
    read_pixels,
    trimap,
)

NAME = "folder"
IMAGE_FOLDERS = ("images", "img", "image", "data_GT", "JPEGImages")
MASK_FOLDERS = ("masks", "mask", "gt", "boundary_GT")
INSTANCE_FOLDERS = ("instances", "inst", "SegmentationObject", "labels")


def _first(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _find_folder(root: Path, name: str, layout: Layout) -> tuple[Iterator[Item], Read]:
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
    return _instance_items(images, instances), read_instance


def _mask_items(images: Path, masks: Path) -> Iterator[Item]:
    """One sample for each mask; an image may have several, named IMAGE_1, IMAGE_2 ..."""
    found = by_stem(masks)
    numbered: dict[str, list[Path]] = {}
    for stem, path in found.items():
        match = re.fullmatch(r"(.+)_\d+", stem)
        if match:
            numbered.setdefault(match.group(1), []).append(path)
    for path in files_in(images):
        own = [found[path.stem]] if path.stem in found else numbered.get(path.stem, [None])
        for mask in own:
            yield Item(mask.stem if mask else path.stem, path.stem, path, mask)


def _read_mask(item: Item) -> tuple[np.ndarray, np.ndarray]:
    return picture(item), trimap(pixels(item).max(axis=2))


def _instance_items(images: Path, maps: Path) -> Iterator[Item]:
    found = by_stem(maps)
    for path in files_in(images):
        mask = found.get(path.stem)
        stored = read_pixels(mask, colour=False) if mask else None
        yield from items_of_labels(path.stem, path, mask, stored)


FOLDER = Layout(
    NAME,
    "{root}/images/ with images, and either {root}/masks/ with masks of the same names (one "
    "object: above 128, or 1; 128 ignored; several objects: NAME_1.png, NAME_2.png) or "
    "{root}/instances/ with instance maps (0 background, a value or colour for each object)",
    _find_folder,
)
