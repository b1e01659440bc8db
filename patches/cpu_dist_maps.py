"""The CPU distance maps of `DistMaps(cpu_mode=True)` without Cython and a compiler.

The stock demo asks for `cpu_dist_maps=True`, for which `isegm.utils.cython` compiles a Cython
file on first use, through an import hook that affects every later import. The replacement takes
the same rounded click positions and computes the exact minimum of the squared distances. The
Cython version spreads from pixel to pixel and can miss the nearest click by a pixel or so where
the regions of several clicks meet; the GPU path of the stock code is exact like ours.
"""

import importlib.machinery
import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
from fdrn_adapter.patches.framework import CLICKSEG, RITM, Patch

FAR = np.float32(1e6)  # value of the stock maps where there is no click


def get_dist_maps(
    points: np.ndarray, height: int, width: int, norm_delimeter: float
) -> np.ndarray:
    """Squared distance to the nearest positive and the nearest negative click.

    Args:
        points: (2N, 3) float32 rows (row, col, order) in pixels, first N positive; a negative
            row is padding.
        height: rows of the maps.
        width: columns of the maps.
        norm_delimeter: distances are divided by it before squaring (the stock spelling).

    Returns:
        (2, height, width) float32; 1e6 where there is no click of that sign.
    """
    maps = np.full((2, height, width), FAR, dtype=np.float32)
    rows = np.arange(height, dtype=np.float32)[:, None]
    cols = np.arange(width, dtype=np.float32)[None, :]
    half = len(points) / 2
    for i, (row, col, *_) in enumerate(points):
        # C's round(): halves go away from zero.
        row, col = (math.copysign(math.floor(abs(v) + 0.5), v) for v in (row, col))
        if row < 0:
            continue
        squared = ((rows - row) / norm_delimeter) ** 2 + ((cols - col) / norm_delimeter) ** 2
        layer = maps[int(i >= half)]
        np.minimum(layer, squared.astype(np.float32), out=layer)
    return maps


class CpuDistMaps(Patch):
    name = "cpu_dist_maps"
    targets = ("isegm.utils.cython.dist_maps",)
    code_bases = (RITM, CLICKSEG)
    reason = "the demo compiles a Cython file on first use, which needs Cython and a C compiler"
    since = "always; pyximport also hooks every later import"

    def replace(self, name: str) -> Callable[[ModuleType], None] | None:
        return fill_module


def has_compiled_module(module: ModuleType) -> bool:
    """Whether somebody compiled `_get_dist_maps` next to the stock module already."""
    package = module.__name__.rpartition(".")[0]
    folders = [module.__file__.rpartition("/")[0]]
    spec = importlib.machinery.PathFinder.find_spec(f"{package}._get_dist_maps", folders)
    return spec is not None and spec.origin is not None


def fill_module(module: ModuleType) -> None:
    """What the body of `isegm.utils.cython.dist_maps` is replaced with."""
    if has_compiled_module(module):
        from importlib import import_module

        package = module.__name__.rpartition(".")[0]
        module.get_dist_maps = import_module(f"{package}._get_dist_maps").get_dist_maps
    else:
        module.get_dist_maps = get_dist_maps


PATCHES = (CpuDistMaps(),)
