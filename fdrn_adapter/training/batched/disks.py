"""Click maps for training: the stock disks, by one convolution for a whole batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter.grafts.click_encoder import DecoupledClickMaps
from fdrn_adapter.hosts.catalogue import host_of


class FastDisks(nn.Module):
    """Stands in for the stock `DistMaps(use_disks=True)`; equal for clicks on whole pixels.

    The stock module computes a distance map for every click, also those that are padding: 24 maps
    of the crop's size for each sample. Here a one is put on each click, and a convolution with the
    disk spreads them all at once.

    Args:
        radius: of the disks, pixels.
    """

    use_disks = True

    def __init__(self, radius: int):
        super().__init__()
        self.norm_radius = radius
        line = torch.arange(-radius, radius + 1.0)
        disk = (line[:, None] ** 2 + line**2 <= radius**2).float()
        self.register_buffer("disk", disk[None, None], persistent=False)

    def forward(self, x: Tensor, points: Tensor) -> Tensor:
        """x: (B, _, H, W), of which the size is taken; points: (B, 2N, 3). Returns (B, 2, H, W)."""
        (batch, count, _), (rows, cols) = points.shape, x.shape[-2:]
        valid = points[..., :2].amax(2) >= 0
        row = points[..., 0].round().long().clamp(0, rows - 1)
        col = points[..., 1].round().long().clamp(0, cols - 1)
        slot = torch.arange(count, device=points.device)
        plane = 2 * torch.arange(batch, device=points.device)[:, None] + (slot >= count // 2)
        canvas = torch.zeros(batch * 2 * rows * cols, device=points.device)
        place = (plane * rows + row) * cols + col
        canvas.scatter_add_(0, place.flatten(), valid.float().flatten())
        with torch.autocast(points.device.type, enabled=False):
            spread = F.conv2d(
                canvas.view(batch * 2, 1, rows, cols), self.disk, padding=self.norm_radius
            )
        return (spread.view(batch, 2, rows, cols) > 0.5).to(x.dtype)


def click_maps(net: nn.Module) -> nn.Module:
    """The module of a network (an FDRN model or a stock one) that draws all clicks."""
    host, info = host_of(net)
    maps = host.get_submodule(info.click_maps)
    return maps.host_maps if isinstance(maps, DecoupledClickMaps) else maps


@contextmanager
def fast_click_maps(net: nn.Module) -> Iterator[nn.Module]:
    """Let a network draw its clicks by `FastDisks` while the context lasts, where that is the same.

    Yields:
        the module that draws all clicks now: the stock one where it draws no disks.
    """
    host, info = host_of(net)
    before = host.get_submodule(info.click_maps)
    stock = click_maps(net)
    if not _same(stock):
        yield stock
        return
    fast = FastDisks(int(stock.norm_radius)).to(next(net.parameters()).device)
    owner, _, name = info.click_maps.rpartition(".")
    owner = host.get_submodule(owner)
    if before is stock:
        setattr(owner, name, fast)
    else:
        before.host_maps = fast
    try:
        yield fast
    finally:
        if before is stock:
            setattr(owner, name, stock)
        else:
            before.host_maps = stock


def _same(stock: nn.Module) -> bool:
    return (
        getattr(stock, "use_disks", False) and getattr(stock, "spatial_scale", None) == 1.0
        and float(stock.norm_radius).is_integer()
    )
