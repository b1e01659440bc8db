"""SBD and Pascal VOC: every instance of an image is a sample, as in the stock evaluation."""

import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.evaluation.datasets.layout import Item, Layout, Read, picture, pixels, read_pixels
from fdrn_adapter.evaluation.datasets.sample import BadSampleError
from fdrn_adapter.label_maps import IGNORE

VOC_VOID = 220  # gray value of Pascal VOC's border colour
_SEGMENTATION = "ImageSets/Segmentation"


def _names(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines() if line.strip()]


# -- SBD ---------------------------------------------------------------------------------------


def _find_sbd(root: Path, name: str, layout: Layout) -> tuple[Iterator[Item], Read]:
    layout.require(name, root, "img", "inst", "val.txt")
    _require_scipy()
    return _sbd_items(root), _read_sbd


def _require_scipy() -> Any:
    try:
        import scipy.io
    except ImportError as error:
        raise ValueError(
            "SBD's instance maps are MATLAB files, which scipy reads, and scipy is not installed: "
            "pip install 'fdrn_adapter[benchmark]'."
        ) from error
    return scipy.io


def _sbd_items(root: Path) -> Iterator[Item]:
    for name in _names(root / "val.txt"):
        image, mask = root / "img" / f"{name}.jpg", root / "inst" / f"{name}.mat"
        try:
            labels = np.unique(read_mat(mask))
        except BadSampleError as error:
            yield Item(name, name, image, mask, problem=error.reason)
            continue
        if not (labels > 0).any():
            yield Item(name, name, image, mask, problem="the instance map has no object")
        for label in labels[labels > 0].tolist():
            yield Item(f"{name}#{label}", name, image, mask, label)


def read_mat(path: Path) -> np.ndarray:
    """The instance map (H, W) of an SBD file: GTinst.Segmentation.

    Raises:
        BadSampleError: it cannot be read, or holds something else.
    """
    io = _require_scipy()
    unreadable = (
        OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, NotImplementedError,
        zlib.error, io.matlab.MatReadError,
    )
    try:
        return io.loadmat(str(path))["GTinst"][0][0][0].astype(np.int32)
    except unreadable as error:
        raise BadSampleError(path.stem, f"{path} cannot be read: {error}") from error


def _read_sbd(item: Item) -> tuple[np.ndarray, np.ndarray]:
    return picture(item), (read_mat(item.mask) == item.label).astype(np.int32)


SBD = Layout(
    "{root}/img/*.jpg, {root}/inst/*.mat and {root}/val.txt with one name a line, as the stock "
    "code wants it",
    _find_sbd,
)

# -- Pascal VOC --------------------------------------------------------------------------------


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
    return _voc_items(root, _names(plain)), _read_voc


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
        stored = read_pixels(item.mask, colour=True)
        if stored is None:
            yield _voc_item(root, name, None, f"the instance map {item.mask} cannot be read")
            continue
        labels = np.unique(_gray(stored))
        labels = labels[(labels != 0) & (labels != VOC_VOID)].tolist()
        if not labels:
            yield _voc_item(root, name, None, "the instance map has no object")
        for label in labels:
            yield _voc_item(root, name, label)


def _gray(colours: np.ndarray) -> np.ndarray:
    """Instances are told apart by the gray value of their palette colour, as in the stock code."""
    import cv2

    return cv2.cvtColor(colours, cv2.COLOR_BGR2GRAY).astype(np.int32)


def _read_voc(item: Item) -> tuple[np.ndarray, np.ndarray]:
    if item.label is None:
        raise BadSampleError(item.id, "it names no instance")
    labels = _gray(pixels(item))
    return picture(item), np.where(
        labels == item.label, 1, np.where(labels == VOC_VOID, IGNORE, 0)
    )


PASCAL_VOC = Layout(
    "{root}/JPEGImages/*.jpg, {root}/SegmentationObject/*.png and, in "
    "{root}/ImageSets/Segmentation/, test.pickle (the stock list of images and instances) or "
    "val.txt",
    _find_voc,
)
