"""BraTS, the paper's brain tumours in MRI: every axial slice with a tumour is a sample."""

import dataclasses
import functools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.evaluation.datasets.layout import Item, Layout, Read
from fdrn_adapter.evaluation.datasets.sample import BadSampleError
from fdrn_adapter.images import gray_range, scan_to_gray

# What files of a modality end in: releases until 2021, and from 2023 on.
MODALITIES = {
    "flair": ("_flair", "-t2f"),
    "t1": ("_t1", "-t1n"),
    "t1ce": ("_t1ce", "-t1c"),
    "t2": ("_t2", "-t2w"),
}
DEFAULT_MODALITY = "flair"  # shows the whole tumour, oedema included, which is what is segmented
_SEGMENTATIONS = ("_seg", "-seg")
_NIFTI = (".nii.gz", ".nii")


def _find_brats(root: Path, name: str, layout: Layout) -> tuple[Iterator[Item], Read]:
    _require_nibabel()
    modality = layout.name.partition("-")[2] or DEFAULT_MODALITY
    return _brats_items(root, modality), _read_slice


def _require_nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise ValueError(
            "BraTS volumes are NIfTI files, which nibabel reads, and nibabel is not installed: "
            "pip install 'fdrn_adapter[medical]'."
        ) from error
    return nibabel


def _brats_items(root: Path, modality: str) -> Iterator[Item]:
    """One sample for each axial slice with a tumour."""
    for path, name in _volumes(root):
        ends = [m + n for m in MODALITIES[modality] for n in _NIFTI]
        image = next((p for e in ends if (p := path.with_name(name + e)).is_file()), None)
        if image is None:
            problem = f"there is no {name}{ends[0]} (modality {modality}) beside {path}"
            yield Item(name, name, path, path, problem=problem)
            continue
        try:
            tumour = _volume(path) > 0
        except BadSampleError as error:
            yield Item(name, name, image, path, problem=error.reason)
            continue
        slices = np.flatnonzero(tumour.any(axis=(0, 1))).tolist()
        if not slices:
            yield Item(name, name, image, path, problem="no slice of the volume has a tumour")
        for z in slices:
            yield Item(f"{name}/z{z:03d}", f"{name}/z{z:03d}", image, path, z)


def _volumes(root: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(root.rglob("*seg.nii*")):
        stem = path.name.removesuffix(".gz").removesuffix(".nii")
        for end in _SEGMENTATIONS:
            if stem.endswith(end):
                yield path, stem.removesuffix(end)


@functools.lru_cache(maxsize=2)  # a volume has a hundred slices, one sample each
def _volume(path: Path) -> np.ndarray:
    """(X, Y, Z) as stored."""
    nibabel = _require_nibabel()
    try:
        volume = np.asarray(nibabel.load(path).dataobj)
    except (
        OSError, EOFError, ValueError, zlib.error, nibabel.filebasedimages.ImageFileError
    ) as error:
        raise BadSampleError(path.name, f"{path} cannot be read as NIfTI: {error}") from error
    if volume.ndim != 3:
        raise BadSampleError(path.name, f"{path} is no volume: its shape is {volume.shape}")
    return volume


@functools.lru_cache(maxsize=2)
def _range(path: Path) -> tuple[float, float]:
    return gray_range(_volume(path))


def _read_slice(item: Item) -> tuple[np.ndarray, np.ndarray]:
    """A slice, rows along y, with the gray values of training (`images.gray_range`), thrice."""
    try:
        volume, tumour = _volume(item.image), _volume(item.mask)
        low, high = _range(item.image)
    except BadSampleError as error:
        raise BadSampleError(item.id, error.reason) from error
    if volume.shape != tumour.shape:
        raise BadSampleError(
            item.id,
            f"the image volume has the shape {volume.shape}, the segmentation {tumour.shape}",
        )
    gray = scan_to_gray(volume[:, :, item.label].T, low, high)
    image = np.repeat(gray[..., None], 3, axis=2)
    return np.ascontiguousarray(image), (tumour[:, :, item.label].T > 0).astype(np.int32)


BRATS = Layout(
    "BraTS",
    "NAME_seg.nii.gz with NAME_flair.nii.gz beside it, anywhere below {root} (another modality: "
    "BraTS-t1ce=DIR, also -t1 and -t2; names of 2023 with -seg and -t2f are known, too)",
    _find_brats,
)
# BraTS-t1ce=DIR and its like.
OTHERS = tuple(dataclasses.replace(BRATS, name=f"BraTS-{modality}") for modality in MODALITIES)
