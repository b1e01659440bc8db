"""One object in one image, and why a sample can be unfit for evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fdrn_adapter.image_folders import printable
from fdrn_adapter.label_maps import IGNORE


class BadSampleError(ValueError):
    """A sample that cannot be evaluated; the others can.

    Args:
        sample_id: its name in the data set.
        reason: what is wrong with it.
    """

    def __init__(self, sample_id: str, reason: str):
        reason = printable(reason)  # there may be file names in it
        super().__init__(f"{sample_id}: {reason}")
        self.sample_id = sample_id
        self.reason = reason


@dataclass(frozen=True)
class Sample:
    """What is to be segmented.

    Attributes:
        id: unique within the data set.
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) int8: 1 the object, 0 the rest, -1 what does not count.
        objects: such masks of all objects of the image; for `multi`.
        object_ids: their ids.
    """

    id: str
    image: np.ndarray
    mask: np.ndarray
    objects: tuple[np.ndarray, ...]
    object_ids: tuple[str, ...]


def check_pair(sample_id: str, image: np.ndarray, mask: np.ndarray) -> None:
    """See that an image and a mask (labels, 1 is the object) belong together.

    Raises:
        BadSampleError: of different size, or no pixel of the object.
    """
    if image.shape[:2] != mask.shape:
        raise BadSampleError(
            sample_id,
            f"the image has {image.shape[1]}x{image.shape[0]} pixels (columns x rows), its mask "
            f"{mask.shape[1]}x{mask.shape[0]}",
        )
    if not (mask == 1).any():
        raise BadSampleError(sample_id, "the mask has no pixel of an object")


def as_sample(sample_id: str, image: np.ndarray, mask: np.ndarray) -> Sample:
    """A checked sample with one object.

    Raises:
        BadSampleError: image and mask do not belong together, or there is no object.
    """
    check_pair(sample_id, image, mask)
    mask = np.where(mask == 1, 1, np.where(mask == IGNORE, IGNORE, 0)).astype(np.int8)
    return Sample(sample_id, image, mask, (mask,), (sample_id,))


def joined(image_id: str, samples: Sequence[Sample]) -> Sample:
    """The objects of one image as one sample; its mask is the first object's."""
    return Sample(
        image_id, samples[0].image, samples[0].mask, tuple(s.mask for s in samples),
        tuple(s.id for s in samples),
    )
