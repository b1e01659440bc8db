"""The list of all patches, in the order in which they apply to a module."""

from __future__ import annotations

from . import (
    albumentations_seeds,
    albumentations_transforms,
    checkpoint_classes,
    cpu_dist_maps,
    cpu_training,
    dataset_errors,
    experiment,
    get_predictor,
    meshgrid,
    missing_imports,
    numpy_aliases,
    pillow_filters,
    resize_state,
    small_objects,
    torch_load,
    training_warnings,
    vis_folder,
)
from .framework import Patch

MODULES = (
    numpy_aliases,
    albumentations_transforms,
    checkpoint_classes,
    dataset_errors,  # before the seeds, which wrap another method of the same class
    albumentations_seeds,
    small_objects,
    missing_imports,
    meshgrid,
    cpu_dist_maps,
    torch_load,
    experiment,
    cpu_training,
    training_warnings,
    pillow_filters,
    resize_state,
    vis_folder,
    get_predictor,
)


def all_patches() -> list[Patch]:
    """Every patch of every module."""
    return [patch for module in MODULES for patch in module.PATCHES]
