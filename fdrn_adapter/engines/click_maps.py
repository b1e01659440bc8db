"""Click maps drawn where the clicks are, to the bit as the stock module draws them everywhere."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Disk:
    """The part of a click's disk that lies inside a map.

    Attributes:
        where: rows and columns of the map.
        inside: (rows, columns) bool, there.
    """

    where: tuple[slice, slice]
    inside: np.ndarray


def with_rows(points: Tensor, number: int) -> Tensor:
    """Points (B, 2N, 3), N positive then N negative, with room for `number` of each: rows of -1."""
    half = points.shape[1] // 2
    padded = points.new_full((len(points), 2, number, 3), -1)
    padded[:, :, :half] = points.reshape(len(points), 2, half, 3)
    return padded.view(len(points), 2 * number, 3)


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
    for sample, rows in zip(maps, points.numpy().astype(np.float32), strict=True):
        draw_disks(sample, rows, radius, module.spatial_scale)
    return torch.from_numpy(maps)


def draw_disks(maps: np.ndarray, points: np.ndarray, radius: float, scale: float = 1.0) -> None:
    """Draw one sample's clicks into its maps (2, H, W), in place.

    Args:
        maps: of positive and of negative clicks; what belongs to a disk becomes 1.
        points: (2N, 3) float32, N positive then N negative.
        radius, scale: of the disks and of the coordinates, as in the stock module.
    """
    for i, (row, col, _) in enumerate(points):
        disk = disk_at(row, col, radius, scale, maps.shape[1:]) if max(row, col) >= 0 else None
        if disk is not None:
            maps[int(i >= len(points) // 2)][disk.where][disk.inside] = 1


def disk_at(row, col, radius: float, scale: float, size: tuple[int, int]) -> Disk | None:
    """One disk, None where none of it is inside the map.

    The stock module's arithmetic, in its precision.
    """
    row, col = np.float32(row) * np.float32(scale), np.float32(col) * np.float32(scale)
    top, left = (max(0, int(np.floor(v - radius))) for v in (row, col))
    bottom, right = (min(n, int(np.ceil(v + radius)) + 1) for v, n in zip((row, col), size,
                                                                         strict=True))
    if top >= bottom or left >= right:
        return None
    dr = (np.arange(top, bottom, dtype=np.float32) - row) ** 2
    dc = (np.arange(left, right, dtype=np.float32) - col) ** 2
    inside = dr[:, None] + dc[None] <= np.float32(radius**2)
    return Disk((slice(top, bottom), slice(left, right)), inside)
