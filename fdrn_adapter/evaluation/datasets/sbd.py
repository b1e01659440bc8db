"""SBD: every instance of an image is a sample, as in the stock evaluation."""

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.evaluation.datasets.layout import Item, Layout, Read, names_in, picture
from fdrn_adapter.evaluation.datasets.sample import BadSampleError


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
    for name in names_in(root / "val.txt"):
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
    "SBD",
    "{root}/img/*.jpg, {root}/inst/*.mat and {root}/val.txt with one name a line, as the stock "
    "code wants it",
    _find_sbd,
)
