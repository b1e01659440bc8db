"""BraTS volumes as a stock data set of 2D slices (Sec. 4.3, A.1)."""

import importlib
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.images import gray_range, scan_to_gray
from fdrn_adapter.output_folders import whole_file

logger = logging.getLogger(__name__)

# Labels of BraTS 2021: 1 necrotic core, 2 oedema, 4 enhancing tumour (3 in later releases).
REGIONS = {"whole": (1, 2, 3, 4), "core": (1, 3, 4), "enhancing": (3, 4)}
MIN_AREA = 30  # pixels of a region in a slice; fewer cannot be clicked at
VALIDATION_VOLUMES = 10


def brats_dataset(
    package: str,
    path: str | Path,
    slices: str | Path,
    split: str = "train",
    volumes: int = 500,
    modality: str = "flair",
    regions: Sequence[str] = tuple(REGIONS),
    seed: int = 0,
    **options: Any,
) -> Any:
    """A stock `ISDataset` over BraTS: one sample for each axial slice and tumour region in it.

    Slices without tumour are left out, gray values are repeated to three channels, `volumes`
    volumes are drawn at random (Sec. 4.3). The paper names neither modality, nor plane, nor
    regions: the defaults here are FLAIR, axial, and BraTS' three nested regions.

    Volumes are read with nibabel once; their slices with tumour are kept as 8-bit arrays (about
    7 MB a volume), so that a sample costs a read of one slice. Safe with several processes.

    Args:
        package: of the stock code.
        path: folder with one folder a volume: NAME/NAME_flair.nii.gz ..., NAME/NAME_seg.nii.gz.
        slices: folder to keep the slices in; made if needed.
        split: "train" for the drawn volumes, "val" for up to ten of the others.
        volumes: how many to train on; all there are, if fewer.
        modality: suffix of the scan: "flair", "t1", "t1ce" or "t2".
        regions: keys of REGIONS.
        seed: of the choice of volumes.
        **options: of the stock ISDataset.

    Raises:
        ValueError: no volumes, no such region, or no slice with tumour.
        ImportError: nibabel is not installed.
    """
    unknown = [name for name in regions if name not in REGIONS]
    if unknown or not regions:
        raise ValueError(f"regions should be some of {[*REGIONS]}, got {list(regions)}.")
    chosen = choose_volumes(Path(path), modality, volumes, split, seed)
    files = [extract_slices(folder, modality, Path(slices)) for folder in chosen]
    samples = [entry for file in files for entry in _samples(file, regions)]
    if not samples:
        raise ValueError(
            f"None of the {len(chosen)} volumes of {path} has a slice with {MIN_AREA} pixels of "
            f"{' or '.join(regions)}."
        )
    base = importlib.import_module(f"{package}.data.base").ISDataset
    sample_class = importlib.import_module(f"{package}.data.sample").DSample

    class BratsSlices(base):
        """Axial slices; the object is one region of the tumour."""

        def __init__(self):
            super().__init__(**options)
            self.dataset_samples = samples

        def get_sample(self, index: int) -> Any:
            file, number, region = self.dataset_samples[index]
            gray, labels = np.load(file, mmap_mode="r")[number]
            image = np.repeat(np.asarray(gray)[..., None], 3, axis=2)
            mask = np.isin(labels, REGIONS[region]).astype(np.int32)
            return sample_class(image, mask, objects_ids=[1], sample_id=index)

    return BratsSlices()


def choose_volumes(root: Path, modality: str, count: int, split: str, seed: int) -> list[Path]:
    """Folders of the volumes of a split, in random order that depends on the seed alone.

    Raises:
        ValueError: none has both scan and segmentation, or none is left to validate on.
    """
    found = sorted(
        folder for folder in root.iterdir()
        if _scan(folder, modality) is not None and _scan(folder, "seg") is not None
    )
    if not found:
        raise ValueError(
            f"{root} should hold folders NAME with NAME_{modality}.nii.gz and NAME_seg.nii.gz (the "
            "BraTS 2021 training data); found none."
        )
    random.Random(seed).shuffle(found)
    if len(found) <= count:
        logger.warning("%d volumes in %s, %d asked for: all are used, for validation too.",
                       len(found), root, count)
        return found if split == "train" else found[:VALIDATION_VOLUMES]
    return found[:count] if split == "train" else found[count:][:VALIDATION_VOLUMES]


def _scan(folder: Path, kind: str) -> Path | None:
    for suffix in (".nii.gz", ".nii"):
        path = folder / f"{folder.name}_{kind}{suffix}"
        if path.is_file():
            return path
    return None


def extract_slices(folder: Path, modality: str, out: Path) -> Path:
    """Keep the axial slices with tumour of a volume.

    Returns:
        file of an array (slices, 2, rows, columns) uint8: gray values, then labels; see
        `images.gray_range`.

    Raises:
        ImportError: nibabel is not installed.
    """
    path = out / f"{folder.name}_{modality}.npy"
    if path.is_file():
        return path
    try:
        import nibabel
    except ImportError as error:
        raise ImportError(
            "Reading BraTS volumes needs nibabel: pip install fdrn_adapter[medical]"
        ) from error
    scan = np.asarray(nibabel.load(_scan(folder, modality)).dataobj, dtype=np.float32)
    labels = np.asarray(nibabel.load(_scan(folder, "seg")).dataobj).astype(np.uint8)
    gray = scan_to_gray(scan, *gray_range(scan))
    kept = np.flatnonzero(labels.any(axis=(0, 1)))
    stacked = np.stack([gray, labels])[..., kept]  # (2, x, y, slices)
    # NIfTI arrays run x, y, z: rows are y.
    array = np.ascontiguousarray(stacked.transpose(3, 0, 2, 1))
    out.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part, part.open("wb") as file:
        np.save(file, array)
    return path


def _samples(file: Path, regions: Sequence[str]) -> list[tuple[str, int, str]]:
    labels = np.load(file, mmap_mode="r")[:, 1]
    return [
        (str(file), number, region)
        for number, layer in enumerate(labels)
        for region in regions
        if np.isin(layer, REGIONS[region]).sum() >= MIN_AREA
    ]
