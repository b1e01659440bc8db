"""Click maps drawn where clicks are, to the bit as the stock module draws them everywhere."""

import numpy as np
import torch
from torch import Tensor, nn


def draw_maps(module: nn.Module, points: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 2, H, W) of positive and negative clicks.

    Args:
        module: the stock `DistMaps`; other than disks it draws itself.
        points: (B, 2N, 3) rows of (row, col, order), N positive then N negative.
        size: rows and columns of the maps.
    """
    if not getattr(module, "use_disks", False) or getattr(module, "cpu_mode", True):
        return module(torch.empty(len(points), 0, *size), points)
    radius = module.norm_radius * module.spatial_scale
    maps = np.zeros((len(points), 2, *size), np.float32)
    half = points.shape[1] // 2
    for sample, rows in zip(maps, points.numpy().astype(np.float32), strict=True):
        for i, (row, col, _) in enumerate(rows):
            if max(row, col) >= 0:
                for where, disk in disk_at(row, col, radius, module.spatial_scale, size):
                    sample[int(i >= half)][where][disk] = 1
    return torch.from_numpy(maps)


def disk_at(row, col, radius: float, scale: float, size: tuple[int, int]) -> list:
    """[(slices, bool array)] of one disk inside a map, or [] where none of it is inside.

    The stock module's arithmetic, in its precision.
    """
    row, col = np.float32(row) * np.float32(scale), np.float32(col) * np.float32(scale)
    top, left = (max(0, int(np.floor(v - radius))) for v in (row, col))
    bottom, right = (min(n, int(np.ceil(v + radius)) + 1) for v, n in zip((row, col), size,
                                                                         strict=True))
    if top >= bottom or left >= right:
        return []
    dr = (np.arange(top, bottom, dtype=np.float32) - row) ** 2
    dc = (np.arange(left, right, dtype=np.float32) - col) ** 2
    disk = dr[:, None] + dc[None] <= np.float32(radius**2)
    return [((slice(top, bottom), slice(left, right)), disk)]
