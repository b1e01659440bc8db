"""Click maps, click encoder and the stem's second convolution, by linearity (HRNet hosts).

The stock Conv1S is a 1x1 convolution, a LeakyReLU, and from there on linear: a 3x3 convolution of
stride 2, a scale, in an FDRN the 3x3 fuse of two such encoders, then the sum with the image's first
features and the backbone's second 3x3 convolution of stride 2. So the stem's output before its
activation is a sum

    image term  +  term of the previous mask without clicks  +  terms of the clicks' disks,

each through one composed convolution of 11x11 cells (7x7 for stock networks) and stride 4:

- the image term, and what an empty mask without clicks gives, change with the roi only;
- of a value of the previous mask, each of the 16 channels behind the LeakyReLU is a piecewise
  linear function (`mask_term`);
- a disk changes the channels on its 81 pixels only, and the output on at most 6x6 cells.

At the map's border the stock layers pad their own inputs with zeros, so that border cells have
other composed kernels; there are three cases per axis.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter.engines.click_maps import draw_disks
from fdrn_adapter.engines.mask_term import STRIDE, MaskTerm, pieces_of
from fdrn_adapter.engines.rewrites import affine_of
from fdrn_adapter.grafts.click_encoder import DecoupledClickEncoder, split_current_click

MAX_RADIUS = 16  # pixels; larger disks are no longer sparse


@dataclass(frozen=True)
class Branch:
    """One click encoder: which clicks it sees ("all", "current", "history")."""

    clicks: str
    conv1: nn.Conv2d
    slope: float
    conv3: nn.Conv2d
    scale: float


class ClickStem(nn.Module):
    """The composed form of a host's click encoder and second convolution.

    Args:
        backbone: a stock HRNet, in eval mode, before its batch norms are folded.
        branches, fuse: from `branches_of` the click encoder.
        radius_px: of the disks.
        with_prev_mask: whether the encoders see a previous mask.
        size: rows and columns of the crop, multiples of 4.
    """

    @torch.no_grad()
    def __init__(
        self, backbone: nn.Module, branches: list[Branch], fuse: nn.Conv2d | None,
        radius_px: float, with_prev_mask: bool, size: tuple[int, int],
    ):
        super().__init__()
        self.size, self.radius_px = size, radius_px
        self.branches, self.fuse = branches, fuse
        self.reach = 5 if fuse is not None else 3  # pixels a cell sees to either side
        self.window = 2 * self.reach + 1
        scale, shift = affine_of(backbone.bn2)
        self.conv2_weight = backbone.conv2.weight.double() * scale.view(-1, 1, 1, 1)
        self.conv2_shift = shift
        kernels = self._compose()
        self.register_buffer("base", self._base(), persistent=False)
        self.mask_term = MaskTerm(kernels, pieces_of(branches), size, self.reach) \
            if with_prev_mask else None
        widths = [branch.conv1.out_channels for branch in branches]
        self.tables = [
            [[self._by_phase(case) for case in row] for row in part]
            for part in kernels.float().split(widths, dim=3)
        ]

    # -- composing -----------------------------------------------------------------------------

    def _compose(self) -> Tensor:
        """Composed kernels for the three cases of rows and of columns, by the layers' adjoints.

        (3, 3, 64, channels, window, window): first, inner and last row, first, inner and last
        column; taps on what the stock layers pad with zeros are left out.
        """
        return torch.stack([
            torch.stack([self._composed(row, col) for col in range(3)]) for row in range(3)
        ])

    def _composed(self, row: int, col: int) -> Tensor:
        on_stem = _inside(self.conv2_weight, row, col, 1, 0)  # (64, 64, 3, 3)
        encoded = {"all": on_stem}
        if self.fuse is not None:
            on_encoded = F.conv_transpose2d(on_stem, self.fuse.weight.double())  # 5 x 5
            on_encoded = _inside(on_encoded, row, col, 2, 1)
            encoded["current"], encoded["history"] = on_encoded.chunk(2, dim=1)
            encoded["all"] = F.pad(on_stem, (1, 1, 1, 1))
        return torch.cat([
            branch.scale * F.conv_transpose2d(
                encoded[branch.clicks], branch.conv3.weight.double(), stride=2
            )
            for branch in self.branches
        ], dim=1)

    def _base(self) -> Tensor:
        """(1, 64, h, w): what no click and an empty mask give, biases included."""
        encoded = {}
        for branch in self.branches:
            value = _activate(branch.conv1.bias, branch.slope)
            hidden = value.view(1, -1, 1, 1).expand(-1, -1, *self.size)
            encoded[branch.clicks] = branch.scale * branch.conv3(hidden)
        out = encoded.get("all", 0)
        if self.fuse is not None:
            out = out + self.fuse(torch.cat([encoded["current"], encoded["history"]], dim=1))
        out = F.conv2d(out, self.conv2_weight.float(), None, stride=2, padding=1)
        return out + self.conv2_shift.float().view(1, -1, 1, 1)

    def _by_phase(self, kernel: Tensor) -> Tensor:
        """(16 * channels, 9 * 64): a kernel (64, channels, w, w) from 4x4 pixels to 3x3 cells."""
        side = 3 * STRIDE
        grid = F.pad(kernel, (0, side - self.window) * 2)
        grid = grid.unflatten(3, (3, STRIDE)).unflatten(2, (3, STRIDE))  # (64, c, k, p, k, p)
        return grid.permute(3, 5, 1, 2, 4, 0).flatten(0, 2).flatten(1).contiguous()

    # -- outside of it -------------------------------------------------------------------------

    @torch.no_grad()
    def add_disks(self, pre: Tensor, points: Tensor, prev_mask: Tensor | None) -> Tensor:
        """`pre` (B, 64, h, w) with the terms of all clicks; `pre` itself stays as it is.

        Args:
            pre: the image term.
            points: (B, 2N, 3) as the model takes them.
            prev_mask: (B, 1, H, W), None for networks without.
        """
        of = {"all": points}
        if self.fuse is not None:
            of["current"], of["history"] = split_current_click(points)
        rows, cols = (side // STRIDE for side in self.size)
        # Cells beyond the border are there to be written to, and cut off.
        cells = torch.zeros(len(points), (rows + 6) * (cols + 6), pre.shape[1])
        for branch, tables in zip(self.branches, self.tables, strict=True):
            for b in range(len(points)):
                mask = None if prev_mask is None else prev_mask[b, 0].numpy()
                pixels = self._disk_pixels(of[branch.clicks][b].numpy(), mask)
                if pixels is not None:
                    y, x, maps = pixels
                    self._scatter(cells[b], y, x, self._change(branch, maps), tables)
        cells = cells.view(len(points), rows + 6, cols + 6, -1)[:, 3:-3, 3:-3]
        return pre + cells.permute(0, 3, 1, 2)

    def _disk_pixels(self, points: np.ndarray, mask: np.ndarray | None) -> tuple | None:
        """Rows and columns (n,) inside of disks and the maps there (n, 2 or 3), or None."""
        drawn = np.zeros((2, *self.size), bool)
        draw_disks(drawn, points.astype(np.float32), self.radius_px)
        places = np.flatnonzero(drawn[0] | drawn[1])
        if not len(places):
            return None
        y, x = np.divmod(places, self.size[1])
        maps = [part.reshape(-1)[places].astype(np.float32) for part in drawn]
        if mask is not None:
            maps.insert(0, mask[y, x])
        return torch.from_numpy(y), torch.from_numpy(x), torch.from_numpy(np.stack(maps, axis=1))

    @staticmethod
    def _change(branch: Branch, maps: Tensor) -> Tensor:
        """(n, 16): by how much disks change what is behind the LeakyReLU."""
        weight, bias = branch.conv1.weight[:, :, 0, 0].T, branch.conv1.bias
        without = maps.clone()
        without[:, -2:] = 0
        return _activate(maps @ weight + bias, branch.slope) \
            - _activate(without @ weight + bias, branch.slope)

    def _scatter(self, cells: Tensor, y: Tensor, x: Tensor, change: Tensor, tables: list) -> None:
        """Add what pixels (n, channels) give to the cells around them, (all cells, 64).

        Pixel y is under the kernel of the cells u // 4 - k, k = 0, 1, 2, with u = y + reach, at its
        row u % 4 + 4 k. So each square of 4x4 pixels gives to 3x3 cells: one product for all.
        """
        rows, cols = (side // STRIDE for side in self.size)
        u, v = y + self.reach, x + self.reach
        across = cols + 3  # squares in a row of them
        squares, which = torch.unique((u // STRIDE) * across + v // STRIDE, return_inverse=True)
        pixels = change.new_zeros(len(squares), STRIDE**2, change.shape[1])
        pixels[which, (u % STRIDE) * STRIDE + v % STRIDE] = change
        pixels = pixels.flatten(1)
        given = (pixels @ tables[1][1]).unflatten(1, (9, -1))  # (squares, 9, 64)
        k = torch.arange(9)
        i = (squares // across)[:, None] - k // 3  # (squares, 9)
        j = (squares % across)[:, None] - k % 3
        row_case, col_case = (
            1 - (cell == 0).long() + (cell == last).long()
            for cell, last in ((i, rows - 1), (j, cols - 1))
        )
        case = 3 * row_case + col_case
        for other in set(case.flatten().tolist()) - {4}:
            here = case == other
            some = here.any(dim=1)
            own = (pixels[some] @ tables[other // 3][other % 3]).unflatten(1, (9, -1))
            given[here] = own[here[some]]
        index = (i + 3) * (cols + 6) + j + 3  # beyond the border, too
        cells.index_add_(0, index.flatten(), given.flatten(0, 1))


def _inside(kernel: Tensor, row: int, col: int, before: int, after: int) -> Tensor:
    """A kernel without its taps beyond the border, in the case (row, col) of 0, 1, 2.

    Of a first cell the first `before` taps are outside, of a last one the last `after`.
    """
    kernel = kernel.clone()
    for case, dim in ((row, 2), (col, 3)):
        if case == 0:
            kernel.narrow(dim, 0, before).zero_()
        elif case == 2 and after:
            kernel.narrow(dim, kernel.shape[dim] - after, after).zero_()
    return kernel


def _activate(x: Tensor, slope: float) -> Tensor:
    return F.leaky_relu(x, slope)


def branches_of(click_encoder: nn.Module) -> tuple[list[Branch], nn.Conv2d | None] | None:
    """The encoders of a host's (decoupled or stock) click encoder, None if they are others."""
    if isinstance(click_encoder, DecoupledClickEncoder):
        parts = {"all": click_encoder.all_clicks, "current": click_encoder.current,
                 "history": click_encoder.history}
        fuse = click_encoder.fuse
    else:
        parts, fuse = {"all": click_encoder}, None
    branches = [_branch(clicks, part) for clicks, part in parts.items() if part is not None]
    return None if None in branches else (branches, fuse)


def _branch(clicks: str, part: nn.Module) -> Branch | None:
    if not (isinstance(part, nn.Sequential) and len(part) == 4):
        return None
    conv1, act, conv3, scale = part
    right = (
        isinstance(conv1, nn.Conv2d) and conv1.kernel_size == (1, 1) and conv1.bias is not None
        and isinstance(act, nn.LeakyReLU | nn.ReLU)
        and isinstance(conv3, nn.Conv2d) and conv3.kernel_size == (3, 3)
        and conv3.stride == (2, 2) and conv3.padding == (1, 1) and conv3.bias is not None
        and hasattr(scale, "scale") and hasattr(scale, "lr_mult")
    )
    if not right:
        return None
    factor = (scale.scale * scale.lr_mult).abs().item()
    return Branch(clicks, conv1, getattr(act, "negative_slope", 0.0), conv3, factor)
