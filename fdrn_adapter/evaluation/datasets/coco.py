"""COCO: every annotation of a JSON file is a sample; crowds are ignored pixels."""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fdrn_adapter.coco import CocoError, CocoImage, CocoObject, mask_functions, read_coco
from fdrn_adapter.evaluation.datasets.layout import Item, Layout, Read, picture
from fdrn_adapter.evaluation.datasets.sample import BadSampleError
from fdrn_adapter.label_maps import IGNORE


def image_folders(file: Path) -> list[Path]:
    """Where the images of a COCO file may lie: beside it or above it, by their usual names."""
    split = file.stem.partition("_")[2]  # instances_val2017.json: val2017/
    places = [file.parent, file.parent.parent]
    return [p / name for name in filter(None, (".", "images", split)) for p in places]


def image_file(folders: list[Path], name: str) -> Path | None:
    """The first file of that name, None where there is none."""
    return next((f / name for f in folders if (f / name).is_file()), None)


def _find_coco(root: Path, name: str, layout: Layout) -> tuple[Iterator[Item], Read]:
    mask_functions()  # say now that pycocotools is missing
    file = _annotations(root, name, layout)
    images = read_coco(file)
    wanted = [(image, o) for image in images for o in image.objects if not o.crowd]
    return _items(file, wanted), functools.partial(_read, wanted)


def _annotations(root: Path, name: str, layout: Layout) -> Path:
    expected = f"Expected: {layout.text.format(root=root)}."
    found = sorted(root.glob("annotations/instances*.json")) or sorted(root.glob("*.json"))
    if not found:
        raise ValueError(f"{name}: there is no COCO file in {root}. {expected}")
    if len(found) > 1:
        files = ", ".join(str(f.relative_to(root)) for f in found)
        raise ValueError(f"{name}: there are several COCO files in {root}: {files}. {expected}")
    return found[0]


def _items(file: Path, wanted: list[tuple[CocoImage, CocoObject]]) -> Iterator[Item]:
    folders = image_folders(file)
    for number, (image, o) in enumerate(wanted):
        name = image.file_name
        path = image_file(folders, name)
        problem = "" if path else f"there is no {folders[0] / name}, nor in folders near it"
        yield Item(f"{name}#{o.id}", name, path or folders[0] / name, file, number, problem)


def _read(
    wanted: list[tuple[CocoImage, CocoObject]], item: Item
) -> tuple[np.ndarray, np.ndarray]:
    image, its_object = wanted[item.label]
    try:
        mask = its_object.mask().astype(np.int32)
        for crowd in (o for o in image.objects if o.crowd):
            mask[crowd.mask() & (mask == 0)] = IGNORE
    except CocoError as error:
        raise BadSampleError(item.id, str(error)) from error
    return picture(item), mask


COCO = Layout(
    "COCO",
    "one COCO file, {root}/annotations/instances*.json or {root}/*.json, and its images in {root}, "
    "{root}/images/ or, for instances_NAME.json, {root}/NAME/",
    _find_coco,
)
