"""The training data of the paper as stock data sets, and plain folders in their place.

Geometry is left to dynamic-scale learning (roi, mirror); the augmentation here changes colours
only, by the stock experiments' own amounts. The stock experiments' random resizing, rotation and
cropping would fight the roi: A.1 mentions none of them.
"""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fdrn_adapter.training.brats import brats_dataset
from fdrn_adapter.training.folders import instance_folder

NUM_MAX_POINTS = 24  # A.1: 1 to 24 initial clicks of either sign
SBD_SCORES = "assets/sbd_samples_weights.pkl"  # in either checkout, used by its SBD experiments
# Samples of the validation after each epoch, as in the stock experiments.
VALIDATION = {"sbd": 500, "coco_lvis": 2000, "brats": 500, "davis": 40, "folder": 40}


def open_source(cfg: Any, package: str, data: str, split: str, epoch_len: int) -> Any:
    """A stock `ISDataset` of one of the paper's sources.

    Args:
        cfg: of the stock train.py. FOLDER=DIR there takes the place of any source: a folder in the
            layout of `instance_folder`, for training and validation alike.
        package: of the stock code.
        data: "sbd" (SBD_PATH), "coco_lvis" (LVIS_v1_PATH, in RITM's layout), "brats" (BRATS_PATH),
            or "davis" (COCO_MVAL_PATH, images with one mask each).
        split: "train" or "val".
        epoch_len: samples in an epoch, -1 for every image once.

    Raises:
        ValueError: unknown source, or cfg names no folder that exists.
    """
    source = "folder" if cfg.get("FOLDER") else data
    if source not in _SOURCES:
        allowed = ", ".join(name for name in _SOURCES if name != "folder")
        raise ValueError(f"There is no training data {data!r}. Allowed: {allowed}.")
    key, make = _SOURCES[source]
    focal = has_refiner(package)
    options = {
        "augmentator": _colours(), "points_sampler": points_sampler(package),
        "epoch_len": epoch_len,
    }
    return make(cfg, _folder(cfg, key, source), package, split, focal, options)


def has_refiner(package: str) -> bool:
    """Whether the stock code is FocalClick's, with a trainer for the refiner."""
    return importlib.util.find_spec(f"{package}.engine.focalclick_trainer") is not None


def points_sampler(package: str) -> Any:
    """The stock sampler with the stock experiments' settings."""
    stock = importlib.import_module(f"{package}.data.points_sampler").MultiPointSampler
    focal = {"use_hierarchy": False, "first_click_center": True} if has_refiner(package) else {}
    return stock(
        NUM_MAX_POINTS, prob_gamma=0.8, merge_objects_prob=0.15, max_num_merged_objects=2, **focal
    )


def _colours() -> Any:
    albumentations = importlib.import_module("albumentations")
    return albumentations.Compose(
        [
            albumentations.RandomBrightnessContrast(
                brightness_limit=(-0.25, 0.25), contrast_limit=(-0.15, 0.4), p=0.75
            ),
            albumentations.RGBShift(r_shift_limit=10, g_shift_limit=10, b_shift_limit=10, p=0.75),
        ],
        p=1.0,
    )


def _folder(cfg: Any, key: str, source: str) -> Path:
    given = cfg.get(key)
    if given and Path(given).is_dir():
        return Path(given)
    got = f"{key} is {given}, which is not a folder" if given else f"cfg has no {key}"
    raise ValueError(
        f"Training on {source} needs its folder, and {got}: --set {key}=DIR, or --set FOLDER=DIR "
        "for a folder with images/ and instances/ (label maps) instead."
    )


def _stock(package: str, name: str) -> type:
    return getattr(importlib.import_module(f"{package}.data.datasets"), name)


def _sbd(cfg: Any, path: Path, package: str, split: str, focal: bool, options: dict) -> Any:
    """SBD; training samples are drawn by the stock list of difficulties, as in both releases."""
    scores = cfg.get("SBD_SCORES", SBD_SCORES if Path(SBD_SCORES).is_file() else "none")
    if split == "train" and str(scores).lower() != "none":
        options = {**options, "samples_scores_path": str(scores), "samples_scores_gamma": 1.25}
    background = 0.01 if split == "train" and not focal else 0.0
    return _stock(package, "SBDDataset")(
        path, split=split, min_object_area=80, keep_background_prob=background, **options
    )


def _coco_lvis(cfg: Any, path: Path, package: str, split: str, focal: bool, options: dict) -> Any:
    training = split == "train"
    return _stock(package, "CocoLvisDataset")(
        path, split=split, min_object_area=1000, keep_background_prob=0.05 * training,
        stuff_prob=(0.2 if focal else 0.3) * training, **options,
    )


def _brats(cfg: Any, path: Path, package: str, split: str, focal: bool, options: dict) -> Any:
    slices = cfg.get("BRATS_SLICES_PATH") or Path(cfg.EXPS_PATH) / "brats_slices"
    chosen = {k.lower().removeprefix("brats_"): cfg[k] for k in ("BRATS_MODALITY",) if k in cfg}
    return brats_dataset(
        package, path, slices, split=split, volumes=int(cfg.get("BRATS_VOLUMES", 500)),
        keep_background_prob=0.0, **chosen, **options,
    )


def _davis(cfg: Any, path: Path, package: str, split: str, focal: bool, options: dict) -> Any:
    return _stock(package, "DavisDataset")(
        path, min_object_area=400, keep_background_prob=0.0, **options
    )


def _any_folder(cfg: Any, path: Path, package: str, split: str, focal: bool, options: dict) -> Any:
    alone = not (path / "instances").is_dir() and (path / "masks").is_dir()
    masks = {"masks": "masks", "binary": True} if alone else {}
    return instance_folder(package, path, keep_background_prob=0.0, **masks, **options)


_SOURCES: dict[str, tuple[str, Callable[..., Any]]] = {
    "sbd": ("SBD_PATH", _sbd),
    "coco_lvis": ("LVIS_v1_PATH", _coco_lvis),
    "brats": ("BRATS_PATH", _brats),
    "davis": ("COCO_MVAL_PATH", _davis),
    "folder": ("FOLDER", _any_folder),
}
