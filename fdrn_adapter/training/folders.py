"""Plain folders of images and label maps as stock data sets."""

import importlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fdrn_adapter.images import read_image
from fdrn_adapter.label_maps import IGNORE, instance_labels, one_object

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")


def instance_folder(
    package: str,
    path: str | Path,
    images: str = "images",
    masks: str = "instances",
    min_share: float = 0.005,
    whole_prob: float = 0.0,
    binary: bool = False,
    **options: Any,
) -> Any:
    """A stock `ISDataset` over a folder of images and label maps.

    Args:
        package: of the stock code, "isegm" or "ritm_annotation".
        path: folder that holds the two folders.
        images, masks: their names; a mask has its image's stem and is a PNG of instances (or
            parts) by value or colour, see `label_maps.instance_labels`; what is void there has no
            part in losses and clicks.
        min_share: instances below this share of the image are no objects.
        whole_prob: how often all labels together are one object (a person out of its garments).
        binary: masks of one object, which is what is not 0 (DAVIS, COCO_MVal), instead of labels.
            Borders of such masks may have values in between.
        **options: of the stock ISDataset (augmentator, points_sampler, epoch_len ...).

    Raises:
        ValueError: a folder is missing, or no image has a mask and an object large enough; while
            reading: a mask is not of its image's size.
    """
    base = importlib.import_module(f"{package}.data.base").ISDataset
    sample_class = importlib.import_module(f"{package}.data.sample").DSample

    class InstanceFolder(base):
        """One sample an image."""

        def __init__(self):
            super().__init__(**options)
            self.dataset_samples = _pairs(Path(path), images, masks, min_share, binary)

        def get_sample(self, index: int) -> Any:
            image_path, mask_path = self.dataset_samples[index]
            image, labels = read_image(image_path), _read_labels(mask_path, binary)
            if labels.shape != image.shape[:2]:
                raise ValueError(
                    f"{mask_path} has {labels.shape[0]} x {labels.shape[1]} pixels (rows x "
                    f"columns), its image {image_path} {image.shape[0]} x {image.shape[1]}."
                )
            if random.random() < whole_prob:
                labels = np.where(labels > 0, 1, labels)
            void = labels == IGNORE
            ids = _large(labels, min_share)
            labels = np.where(np.isin(labels, ids), labels, 0)
            ignored = [ids[-1] + 1] * bool(void.any())
            labels[void] = ids[-1] + 1
            return sample_class(
                image, labels, objects_ids=ids, ignore_ids=ignored, sample_id=index
            )

    return InstanceFolder()


def mixture(
    package: str, parts: Sequence[tuple[Any, float]], epoch_len: int, **options: Any
) -> Any:
    """A stock `ISDataset` that draws each sample from one of several.

    Args:
        package: of the stock code.
        parts: (data set, weight); their own augmentation and point sampler are not used.
        epoch_len: samples in an epoch.
        **options: of the stock ISDataset.
    """
    base = importlib.import_module(f"{package}.data.base").ISDataset
    datasets, weights = zip(*parts, strict=True)

    class Mixture(base):
        """Samples of several data sets."""

        def __init__(self):
            super().__init__(epoch_len=epoch_len, **options)
            self.dataset_samples = range(sum(d.get_samples_number() for d in datasets))

        def get_sample(self, index: int) -> Any:
            chosen = random.choices(datasets, weights)[0]
            return chosen.get_sample(random.randrange(chosen.get_samples_number()))

    return Mixture()


def _pairs(
    root: Path, images: str, masks: str, min_share: float, binary: bool
) -> list[tuple[Path, Path]]:
    for name in (images, masks):
        if not (root / name).is_dir():
            raise ValueError(
                f"{root} should hold the folders {images}/ (photographs) and {masks}/ (label maps, "
                f"PNG of the same stem); there is no {root / name}."
            )
    pairs = [
        (image, root / masks / f"{image.stem}.png")
        for image in sorted((root / images).iterdir())
        if image.suffix.lower() in IMAGE_SUFFIXES
    ]
    good = [
        pair for pair in pairs
        if pair[1].is_file() and _large(_read_labels(pair[1], binary), min_share)
    ]
    if not good:
        raise ValueError(
            f"None of the {len(pairs)} images of {root / images} has a mask in {root / masks} with "
            f"an object of at least {min_share:.1%} of the image."
        )
    return good


def _read_labels(path: Path, binary: bool) -> np.ndarray:
    """(H, W) int32: 0 background, 1, 2 ... instances, IGNORE where void."""
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise ValueError(f"{path} cannot be read as an image.")
    if binary:
        return one_object(stored)
    labels = instance_labels(stored)
    if labels.max() > np.iinfo(np.uint16).max:  # colours
        labels = np.unique(np.append(labels, 0), return_inverse=True)[1][:-1].reshape(labels.shape)
    return labels.astype(np.int32)


def _large(labels: np.ndarray, min_share: float) -> list[int]:
    """Labels that cover at least that share of the image, in ascending order."""
    counts = np.bincount(labels[labels > 0])
    return [i for i in range(1, len(counts)) if counts[i] >= max(1, min_share * labels.size)]
