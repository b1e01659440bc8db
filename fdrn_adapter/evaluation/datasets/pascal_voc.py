"""Pascal VOC: every instance of an image is a sample, as in the stock evaluation."""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.evaluation.datasets.layout import (
    Item,
    Layout,
    Read,
    names_in,
    picture,
    pixels,
)
from fdrn_adapter.evaluation.datasets.sample import BadSampleError
from fdrn_adapter.label_maps import IGNORE, read_label_map

VOC_VOID = 220  # gray value of Pascal VOC's border colour
_SEGMENTATION = "ImageSets/Segmentation"


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, texts and numbers; the stock list of samples is a pickle, and may not be more.
    """

    ALLOWED = {
        ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"),
        ("numpy", "dtype"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.ALLOWED:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _find_voc(root: Path, name: str, layout: Layout) -> tuple[Iterator[Item], Read]:
    layout.require(name, root, "JPEGImages", "SegmentationObject")
    listed, plain = (root / _SEGMENTATION / f for f in ("test.pickle", "val.txt"))
    if listed.is_file():
        return _voc_listed(root, listed), _read_voc
    layout.require(name, root, f"{_SEGMENTATION}/val.txt")
    return _voc_items(root, names_in(plain)), _read_voc


def _voc_listed(root: Path, path: Path) -> Iterator[Item]:
    try:
        with path.open("rb") as file:
            names, labels = _PlainUnpickler(file).load()
    except (pickle.UnpicklingError, ValueError, TypeError, EOFError) as error:
        raise ValueError(
            f"{path} should hold two lists, image names and instance ids, and was not read: "
            f"{error}. Remove it to use val.txt instead."
        ) from error
    for name, label in zip(names, labels, strict=True):
        yield _voc_item(root, str(name), int(label))


def _voc_item(root: Path, name: str, label: int | None, problem: str = "") -> Item:
    image = root / "JPEGImages" / f"{name}.jpg"
    mask = root / "SegmentationObject" / f"{name}.png"
    sample_id = name if label is None else f"{name}#{label}"
    return Item(sample_id, name, image, mask, label, problem)


def _voc_items(root: Path, names: list[str]) -> Iterator[Item]:
    for name in names:
        item = _voc_item(root, name, None)
        try:
            stored = read_label_map(item.mask, colours=True)
        except ValueError as error:
            yield _voc_item(
                root, name, None, f"the instance map {item.mask} cannot be read: {error}"
            )
            continue
        labels = np.unique(_gray(stored))
        labels = labels[(labels != 0) & (labels != VOC_VOID)].tolist()
        if not labels:
            yield _voc_item(root, name, None, "the instance map has no object")
        for label in labels:
            yield _voc_item(root, name, label)


def _gray(colours: np.ndarray) -> np.ndarray:
    """Instances are told apart by the gray value of their palette colour, as in the stock code."""
    import cv2  # slow to import, and the names of data sets are wanted without it

    if colours.ndim == 2:
        return colours.astype(np.int32)
    return cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY).astype(np.int32)


def _read_voc(item: Item) -> tuple[np.ndarray, np.ndarray]:
    if item.label is None:
        raise BadSampleError(item.id, "it names no instance")
    labels = _gray(pixels(item, colours=True))
    return picture(item), np.where(
        labels == item.label, 1, np.where(labels == VOC_VOID, IGNORE, 0)
    )


PASCAL_VOC = Layout(
    "PascalVOC",
    "{root}/JPEGImages/*.jpg, {root}/SegmentationObject/*.png and, in "
    "{root}/ImageSets/Segmentation/, test.pickle (the stock list of images and instances) or "
    "val.txt",
    _find_voc,
)
