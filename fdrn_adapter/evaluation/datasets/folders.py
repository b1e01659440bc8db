"""Data sets that are folders of images beside folders of masks or instance maps."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fdrn_adapter.evaluation.datasets.layout import Item, Layout, Read, picture, pixels, read_pixels
from fdrn_adapter.label_maps import IGNORE, instance_labels, one_object

IMAGE_FOLDERS = ("images", "img", "image", "data_GT", "JPEGImages")
MASK_FOLDERS = ("masks", "mask", "gt", "boundary_GT")
INSTANCE_FOLDERS = ("instances", "inst", "SegmentationObject", "labels")
NOT_IMAGES = {".txt", ".md", ".json", ".csv", ".db", ".ini", ".yml", ".yaml"}
GRABCUT_IGNORE = 128


def files_in(folder: Path) -> list[Path]:
    """Files that are meant as pictures, sorted by name as the stock code does."""
    return sorted(
        p for p in folder.glob("*.*")
        if p.is_file() and not p.name.startswith(".") and p.suffix.lower() not in NOT_IMAGES
    )


def by_stem(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in files_in(folder)}


def _pairs(images: Path, masks: Path) -> Iterator[Item]:
    """One object an image; the mask has the image's name up to the first dot."""
    found = by_stem(masks)
    for path in files_in(images):
        mask = found.get(path.name.split(".")[0]) or found.get(path.stem)
        yield Item(path.stem, path.stem, path, mask)


def trimap(mask: np.ndarray) -> np.ndarray:
    """GrabCut's values: above 128 the object, 128 ignored, 1 the object too (stock code)."""
    labels = mask.astype(np.int32)
    labels[mask == GRABCUT_IGNORE] = IGNORE
    labels[mask > GRABCUT_IGNORE] = 1
    return labels


def _read_trimap(item: Item) -> tuple[np.ndarray, np.ndarray]:
    return picture(item), trimap(pixels(item)[:, :, 0])


def _read_any(item: Item) -> tuple[np.ndarray, np.ndarray]:
    return picture(item), one_object(pixels(item))


def _layout(images: str, masks: str, values: str, read: Read) -> Layout:
    def find(root: Path, name: str, layout: Layout) -> tuple[Iterator[Item], Read]:
        layout.require(name, root, images, masks)
        return _pairs(root / images, root / masks), read

    text = f"{{root}}/{images}/ with images and {{root}}/{masks}/ with masks of the same names"
    return Layout(f"{text} ({values})", find)


_TRIMAP = "0 background, 128 ignored, 255 object"
GRABCUT = _layout("data_GT", "boundary_GT", _TRIMAP, _read_trimap)
BERKELEY = _layout("images", "masks", _TRIMAP, _read_trimap)
DAVIS = _layout("img", "gt", "above 0: object", _read_any)


# -- any folder --------------------------------------------------------------------------------


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
    return _instance_items(images, instances), _read_instance


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


def _read_instance(item: Item) -> tuple[np.ndarray, np.ndarray]:
    return picture(item), one_instance(instance_labels(pixels(item, colour=False)), item.label)


FOLDER = Layout(
    "{root}/images/ with images, and either {root}/masks/ with masks of the same names (one "
    "object: above 128, or 1; 128 ignored; several objects: NAME_1.png, NAME_2.png) or "
    "{root}/instances/ with instance maps (0 background, a value or colour for each object)",
    _find_folder,
)
