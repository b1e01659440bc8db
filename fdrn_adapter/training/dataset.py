"""Dynamic-scale samples out of any stock data set (Sec. 3.4), whose code runs unmodified."""

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from fdrn_adapter.training import rois
from fdrn_adapter.training.frozen import FrozenFeatures

PREFIX = "fdrn_"  # of the keys that are added to the stock sample


class DynamicScaleDataset(Dataset):
    """A stock `ISDataset` seen through random rois, with the global image beside each crop.

    The stock `__getitem__` of RITM or ClickSEG does the work. Its augmentation is followed by:
    mirror, choose the object (stock point sampler), draw a roi around it, cut image, masks and the
    point sampler's masks. So points are drawn on the crop, and everything the data set makes of it
    (ClickSEG's focus crops, trimaps) is in the crop's frame.

    Every sample draws from a generator seeded by (seed, epoch, index): it is the same whichever
    worker makes it, and whether or not training was interrupted before.

    Args:
        dataset: the stock data set; it is not changed.
        crop_size: rows and columns of the crop; (320, 320) for RITM, (256, 256) for FocalClick
            (A.1). Or a function of the epoch that returns them.
        global_size: rows and columns of the image that F1 sees (A.1).
        proportion: range of the roi's proportion of the image. None for the ablation: the object
            with the stock zoom-in's fixed margin.
        mirror_prob: how often everything is mirrored, left to right.
        features: give F1's maps from there instead of the global image.
        global_image: add the global image, its features and the roi; False for a stock network.
        seed: of everything random.
        sampler_at: the stock point sampler of an epoch, in place of the data set's own.

    Items are the stock ones and: "fdrn_roi" (4,) float64, the crop's place on the global image
    (rmin, rmax, cmin, cmax, inclusive), and either "fdrn_global" (3, *global_size) in [0, 1] or
    "fdrn_low" and "fdrn_high", half precision.

    Raises:
        ValueError: a range or size that makes no sense.
    """

    def __init__(
        self,
        dataset: Any,
        crop_size: tuple[int, int] | Callable[[int], tuple[int, int]] = (320, 320),
        global_size: tuple[int, int] = (480, 480),
        proportion: tuple[float, float] | None = (0.3, 1.0),
        mirror_prob: float = 0.5,
        features: FrozenFeatures | None = None,
        global_image: bool = True,
        seed: int = 0,
        sampler_at: Callable[[int], Any] | None = None,
    ):
        if proportion is not None and not 0 < proportion[0] <= proportion[1] <= 1:
            raise ValueError(
                f"proportion is a range within (0, 1], such as (0.3, 1.0); got {proportion!r}."
            )
        if not 0 <= mirror_prob <= 1:
            raise ValueError(f"mirror_prob should be in [0, 1], got {mirror_prob!r}.")
        if features is not None and tuple(features.global_size) != tuple(global_size):
            raise ValueError(
                f"The frozen features are of images of {features.global_size}, global_size is "
                f"{global_size} (rows, columns); give both the same."
            )
        self.dataset, self.global_size = dataset, tuple(global_size)
        self._crop_size = crop_size if callable(crop_size) else lambda epoch: crop_size
        self.proportion, self.mirror_prob = proportion, mirror_prob
        self.features, self.global_image, self.seed = features, global_image, seed
        self._sampler_at = sampler_at
        self.epoch = 0

    @property
    def crop_size(self) -> tuple[int, int]:
        """Rows and columns of the crops of the current epoch."""
        return tuple(self._crop_size(self.epoch))

    def set_epoch(self, epoch: int) -> None:
        """Go on to an epoch's samples and crop size."""
        self.epoch = epoch

    @property
    def points_sampler(self) -> Any:
        """The stock point sampler of the current epoch."""
        if self._sampler_at is None:
            return self.dataset.points_sampler
        return self._sampler_at(self.epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def get_samples_number(self) -> int:
        return self.dataset.get_samples_number()

    def __getitem__(self, index: int) -> dict[str, Any]:
        draw = seed_all((self.seed, self.epoch, index))
        view = _View(self, draw)
        item = view.stock_item(index)
        if not self.global_image:
            return item
        image_size = view.whole.shape[:2]
        item[f"{PREFIX}roi"] = rois.roi_on_global(view.roi, image_size, self.global_size)
        return {**item, **self._global(view)}

    def _global(self, view: "_View") -> dict[str, Tensor]:
        if self.features is None:
            return {f"{PREFIX}global": rois.shrink(view.whole, self.global_size)}
        if not view.geometry_kept:
            raise ValueError(
                "Kept features are those of the image as it is, and the augmentator of the stock "
                "data set moves pixels. Leave it only colour changes (flips are mirror_prob, "
                "scaling and cropping are the roi's), or train without kept features."
            )
        low, high = self.features.of(view.original, view.mirrored)
        maps = {f"{PREFIX}low": low, f"{PREFIX}high": high}
        return {name: value for name, value in maps.items() if value is not None}


def seed_all(key: tuple[int, ...]) -> random.Random:
    """Seed everything the stock code draws from by a tuple of numbers, in this process.

    Returns:
        a generator of its own for our draws.
    """
    mixed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    random.seed(mixed)
    np.random.seed(mixed % 2**32)
    torch.manual_seed(mixed % 2**63)
    return random.Random(mixed + 1)


class _View:
    """One item in the making: the stock data set with our step behind its augmentation."""

    def __init__(self, owner: DynamicScaleDataset, draw: random.Random):
        self.owner, self.draw = owner, draw
        self.whole = self.original = np.zeros((1, 1, 3), np.uint8)
        self.roi: rois.Roi = (0, 0, 0, 0)
        self.mirrored = False
        self.geometry_kept = True

    def stock_item(self, index: int) -> dict[str, Any]:
        stock = self.owner.dataset
        twin = copy.copy(stock)  # shares the data, not the two attributes that are replaced
        sampler = copy.copy(self.owner.points_sampler)
        twin.points_sampler = _ChosenObject(sampler)
        twin.augment_sample = lambda sample: self._augment(stock, sampler, sample)
        return type(stock).__getitem__(twin, index)

    def _augment(self, stock: Any, sampler: Any, sample: Any) -> Any:
        self.original, masks = sample.image, sample._encoded_masks
        if stock.augmentator is not None:
            sample = type(stock).augment_sample(stock, sample)
        self.geometry_kept = sample._encoded_masks is masks or (
            np.array_equal(sample._encoded_masks, masks)
        )
        sample.remove_small_objects(stock.min_object_area)
        self.mirrored = self.draw.random() < self.owner.mirror_prob
        if self.mirrored:
            # Not `ascontiguousarray`, which leaves the negative stride of a single column.
            sample.image = sample.image[:, ::-1].copy()
            sample._encoded_masks = sample._encoded_masks[:, ::-1].copy()
        sampler.sample_object(sample)
        self.whole = sample.image
        self.roi = self._draw_roi(sampler.selected_mask[0])
        size = self.owner.crop_size
        frame = sample.image.shape[:2]
        sample.image = rois.cut_image(sample.image, self.roi, size)
        sample._encoded_masks = rois.cut_mask(sample._encoded_masks, self.roi, size)
        for name, value in vars(sampler).items():
            setattr(sampler, name, self._cut_all(value, frame, size))
        return sample

    def _draw_roi(self, mask: np.ndarray) -> rois.Roi:
        if self.owner.proportion is None:
            return rois.fixed_roi(mask, margin=1.4, min_side=200)
        return rois.sample_roi(mask, self.owner.proportion, self.draw)[0]

    def _cut_all(self, value: Any, frame: tuple[int, int], size: tuple[int, int]) -> Any:
        """Every mask of the image's size in the point sampler's state, cut alike."""
        if isinstance(value, np.ndarray) and value.shape[-2:] == frame:
            if value.ndim == 2:
                return rois.cut_mask(value, self.roi, size)
            return np.stack([rois.cut_mask(layer, self.roi, size) for layer in value])
        if isinstance(value, dict):
            return {k: self._cut_all(v, frame, size) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._cut_all(v, frame, size) for v in value)
        return value


class _ChosenObject:
    """The stock point sampler with its object chosen already."""

    def __init__(self, sampler: Any):
        self._sampler = sampler

    def sample_object(self, sample: Any) -> None:
        """Chosen on the whole image, before the roi."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sampler, name)
