"""Click maps drawn on a device, by few kernels and without a look at the clicks' values."""

import torch
from torch import Tensor, nn

FAR = 1e6  # squared distance to a click that is padding, as in the stock module


def draw_on_device(module: nn.Module, points: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 2, H, W) of positive and negative clicks, to the bit as the stock `DistMaps` draws them.

    The stock module writes by a boolean index, whose length the host has to wait for.

    Args:
        module: the stock one; its radius, scale, and disks or distances are in force.
        points: (B, 2N, 3) rows of (row, col, order), N positive then N negative.
        size: rows and columns of the maps.
    """
    scale, radius = module.spatial_scale, module.norm_radius * module.spatial_scale
    padding = points[..., :2].amax(dim=2) < 0  # (B, 2N)
    squares = []
    for axis, side in enumerate(size):
        cells = torch.arange(side, dtype=torch.float32, device=points.device)
        apart = cells - points[..., axis, None] * scale  # (B, 2N, side)
        squares.append((apart if module.use_disks else apart / radius).square())
    rows, cols = squares
    rows = torch.where(padding[..., None], FAR, rows)
    cols = torch.where(padding[..., None], 0.0, cols)
    nearest = None
    for kind in zip(rows.chunk(2, dim=1), cols.chunk(2, dim=1), strict=True):
        distance = (kind[0][..., None] + kind[1][:, :, None]).amin(dim=1, keepdim=True)
        nearest = distance if nearest is None else torch.cat([nearest, distance], dim=1)
    if module.use_disks:
        return (nearest <= radius**2).float()
    return torch.tanh(2 * nearest.sqrt())
