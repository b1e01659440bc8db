"""The table of patches, in the order in which they apply to a module."""

from fdrn_adapter.patches import (
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
from fdrn_adapter.patches.framework import Patch

from fdrn_adapter.table import Table

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


PATCHES: Table[Patch] = Table(
    "fdrn_adapter.patches", (patch for module in MODULES for patch in module.PATCHES)
)


def all_patches() -> list[Patch]:
    """Ours, then those of other packages."""
    return list(PATCHES.values())
