"""Plain folders of images and label maps as stock data sets."""

import importlib
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.image_folders import Masks, files_in, listed
from fdrn_adapter.images import read_image
from fdrn_adapter.label_maps import (
    AUTO,
    IGNORE,
    instance_labels,
    is_lossy,
    one_object,
    read_label_map,
    what_255_is,
    why_no_labels,
)

logger = logging.getLogger(__name__)


def instance_folder(
    package: str,
    path: str | Path,
    images: str = "images",
    masks: str = "instances",
    min_share: float = 0.005,
    whole_prob: float = 0.0,
    binary: bool = False,
    void: str = AUTO,
    **options: Any,
) -> Any:
    """A stock `ISDataset` over a folder of images and label maps.

    Args:
        package: of the stock code, "isegm" or "ritm_annotation".
        path: folder that holds the two folders.
        images, masks: their names; which mask is whose, `image_folders.Masks` says. A mask holds
            instances (or parts) by value or colour, see `label_maps.instance_labels`; what is void
            there has no part in losses and clicks. Files NAME_1, NAME_2 ... are one object each.
        min_share: instances below this share of the image are no objects.
        whole_prob: how often all labels together are one object (a person out of its garments).
        binary: masks of one object, which is what is not 0 (DAVIS, COCO_MVal), instead of labels.
            Borders of such masks may have values in between.
        void: what 255 in 8-bit instance maps is, see `label_maps`.
        **options: of the stock ISDataset (augmentator, points_sampler, epoch_len ...).

    Raises:
        ValueError: a folder is missing, or no image has a mask and an object large enough; while
            reading: a mask is not of its image's size.

    Images without a mask, or with one that is none, are left out and named in the log, and so are,
    when their turn comes, images that cannot be read.
    """
    base = importlib.import_module(f"{package}.data.base").ISDataset
    sample_class = importlib.import_module(f"{package}.data.sample").DSample

    class InstanceFolder(base):
        """One sample an image."""

        def __init__(self):
            super().__init__(**options)
            self.dataset_samples = _pairs(Path(path), images, masks, min_share, binary, void)
            self._unreadable: set[Path] = set()

        def get_sample(self, index: int) -> Any:
            count = len(self.dataset_samples)
            for i in range(index, index + count):
                image_path, found = self.dataset_samples[i % count]
                try:
                    image = read_image(image_path)
                    break
                except ValueError as error:  # thousands of others can be trained on
                    if image_path not in self._unreadable:
                        logger.warning("left out, the next image takes its turns: %s", error)
                        self._unreadable.add(image_path)
            else:
                raise ValueError(f"None of the images of {path} can be read.")
            labels = _labels_of(found, binary, void)
            if labels.shape != image.shape[:2]:
                raise ValueError(
                    f"{found[0]} has {labels.shape[0]} x {labels.shape[1]} pixels (rows x "
                    f"columns), its image {image_path} {image.shape[0]} x {image.shape[1]}."
                )
            if random.random() < whole_prob:
                labels = np.where(labels > 0, 1, labels)
            ignore = labels == IGNORE
            ids = _large(labels, min_share)
            labels = np.where(np.isin(labels, ids), labels, 0)
            ignored = [ids[-1] + 1] * bool(ignore.any())
            labels[ignore] = ids[-1] + 1
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
    root: Path, images: str, masks: str, min_share: float, binary: bool, void: str
) -> list[tuple[Path, list[Path]]]:
    """Images with their masks; logs what is left out and why."""
    for name in (images, masks):
        if not (root / name).is_dir():
            raise ValueError(
                f"{root} should hold the folders {images}/ (photographs) and {masks}/ (label maps, "
                f"such as PNG of the same stem); there is no {root / name}."
            )
    files = files_in(root / images)
    found = Masks(root / masks, files)
    found.require_any(several=True)
    pairs = [(image, found.all_of(image)) for image in files]
    left_out: dict[str, list[str]] = {}
    good = []
    for image, own in pairs:
        reason = _why_not(own, min_share, binary, void)
        if reason:
            left_out.setdefault(reason, []).append(image.name)
        else:
            good.append((image, own))
    reasons = "; ".join(f"{len(n)} {reason} ({listed(n)})" for reason, n in left_out.items())
    if not good:
        raise ValueError(
            f"None of the {len(pairs)} images of {root / images} has a mask in {root / masks} with "
            f"an object of at least {min_share:.1%} of the image: {reasons or 'there are none'}."
        )
    if left_out:
        logger.warning("%s: %d of %d images used: %s", root, len(good), len(pairs), reasons)
    _tell(root, good, binary, void)
    return good


def _why_not(masks: list[Path], min_share: float, binary: bool, void: str) -> str:
    if not masks:
        return "without a mask"
    try:
        labels = _labels_of(masks, binary, void)
    except ValueError as error:
        return f"with a mask that is none, {error}"
    if not _large(labels, min_share):
        return f"without an object of at least {min_share:.1%} of the image"
    return "" if binary or len(masks) > 1 else why_no_labels(labels, is_lossy(masks[0]))


def _tell(root: Path, good: list[tuple[Path, list[Path]]], binary: bool, void: str) -> None:
    """Say what 255 was taken for, by the first map that has it."""
    for _, masks in good[:50] if void == AUTO and not binary else []:
        taken = what_255_is(read_label_map(masks[0]))
        if taken:
            logger.warning(
                "%s: 255 in %s and others like it is taken for %s; void='never' makes it an "
                "object, void='always' makes it void", root, masks[0].name, taken,
            )
            return


def _labels_of(masks: list[Path], binary: bool, void: str) -> np.ndarray:
    """The labels of one map, or of masks of one object each, later ones on top."""
    if len(masks) == 1:
        return _read_labels(masks[0], binary, void)
    layers = [one_object(read_label_map(path)) for path in masks]
    if len({layer.shape for layer in layers}) > 1:
        raise ValueError(f"{listed([path.name for path in masks])} are of different sizes.")
    labels = np.zeros_like(layers[0])
    for label, layer in enumerate(layers, 1):
        labels[layer > 0] = 1 if binary else label
    return labels


def _read_labels(path: Path, binary: bool, void: str = AUTO) -> np.ndarray:
    """(H, W) int32: 0 background, 1, 2 ... instances, IGNORE where void."""
    stored = read_label_map(path)
    if binary:
        return one_object(stored)
    labels = instance_labels(stored, void)
    if labels.max() > np.iinfo(np.uint16).max:  # colours
        numbers = np.unique(np.append(labels[labels >= 0], 0), return_inverse=True)[1][:-1]
        labels[labels >= 0] = numbers
    return labels.astype(np.int32)


def _large(labels: np.ndarray, min_share: float) -> list[int]:
    """Labels that cover at least that share of the image, in ascending order."""
    counts = np.bincount(labels[labels > 0])
    return [i for i in range(1, len(counts)) if counts[i] >= max(1, min_share * labels.size)]
