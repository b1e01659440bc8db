"""The previous mask's part of a composed click stem (see `click_stem`).

Of a value m in [0, 1] of the mask, each channel behind the LeakyReLU is a piecewise linear function
with at most one knot t = -b/w. All of them together are combinations of m and max(m - t, 0) for the
knots inside (0, 1), which are few (a fourth of the channels for random weights).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STRIDE = 4


@dataclass
class Pieces:
    """Piecewise linear functions of [0, 1], one a channel, each with at most one knot.

    Attributes:
        first: slope of each channel at 0.
        knots: where slopes change.
        steps: (channel, change of slope) at each knot.
    """

    first: list[float] = field(default_factory=list)
    knots: list[float] = field(default_factory=list)
    steps: list[tuple[int, float]] = field(default_factory=list)

    def add(self, weight: Tensor, bias: Tensor, slope: float) -> None:
        """Append LeakyReLU(weight * m + bias) of some channels.

        Args:
            weight, bias: (C,) float64.
            slope: of the LeakyReLU.
        """
        for w, b in zip(weight.tolist(), bias.tolist(), strict=True):
            positive = b > 0 or (b == 0 and w > 0)
            before, after = (w, slope * w) if positive else (slope * w, w)
            self.first.append(before)
            if w != 0 and 0 < -b / w < 1:
                self.knots.append(-b / w)
                self.steps.append((len(self.first) - 1, after - before))


class MaskTerm(nn.Module):
    """What a previous mask adds to the stem's output, by one convolution and border strips.

    Args:
        kernels: (3, 3, 64, channels, window, window) float64: of first, inner and last row, first,
            inner and last column.
        pieces: what the channels are of the mask.
        size: rows and columns of the crop, multiples of 4.
        reach: pixels that a cell sees to either side.
    """

    def __init__(self, kernels: Tensor, pieces: Pieces, size: tuple[int, int], reach: int):
        super().__init__()
        self.size, self.reach, self.window = size, reach, kernels.shape[-1]
        # Windows of the last cells end `STRIDE` pixels behind the cell's own.
        self.tail = min(self.window, reach + STRIDE)
        knots = torch.tensor([0.0, *pieces.knots]).view(1, -1, 1, 1)
        self.register_buffer("knots", knots, persistent=False)
        for name, kernel in self._border_kernels(_of_pieces(kernels, pieces)).items():
            self.register_buffer(name, kernel.contiguous(), persistent=False)

    def _border_kernels(self, mask: Tensor) -> dict[str, Tensor]:
        """Kernels (64, 1 + K, ., .) of inner cells and of the border's, without what is beyond it.

        Those of the top and bottom row are of its three kinds of cells, one after the other.
        """
        r, last = self.reach, self.tail
        return {
            "middle": mask[1, 1],
            "top": mask[0, :, ..., r:, :].flatten(0, 1),
            "left": mask[1, 0, ..., r:],
            "bottom": mask[2, :, ..., :last, :].flatten(0, 1),
            "right": mask[1, 2, ..., :last],
        }

    def forward(self, prev_mask: Tensor) -> Tensor:
        """(B, 64, h, w) of a previous mask (B, 1, H, W) in [0, 1]."""
        x = F.relu(prev_mask - self.knots)  # (B, 1 + K, H, W)
        r, front, tail = self.reach, self.window - self.reach, self.tail
        y = F.conv2d(x, self.middle, stride=STRIDE, padding=r)
        y = y[:, :, : self.size[0] // STRIDE, : self.size[1] // STRIDE]
        return with_borders(
            y, left=F.conv2d(x[..., :front], self.left, stride=STRIDE, padding=(r, 0)),
            right=F.conv2d(x[..., -tail:], self.right, stride=STRIDE, padding=(r, 0)),
            top=F.conv2d(x[:, :, :front], self.top, stride=STRIDE, padding=(0, r)),
            bottom=F.conv2d(x[:, :, -tail:], self.bottom, stride=STRIDE, padding=(0, r)),
        )


def _of_pieces(kernels: Tensor, pieces: Pieces) -> Tensor:
    """Kernels on (m, max(m - t_1, 0), ...): (3, 3, 64, 1 + K, window, window) float32."""
    slopes = torch.tensor(pieces.first).to(kernels)
    parts = [torch.einsum("abocij,c->aboij", kernels, slopes)]
    parts += [kernels[:, :, :, channel] * step for channel, step in pieces.steps]
    return torch.stack(parts, dim=3).float()


def with_borders(inner: Tensor, left: Tensor, right: Tensor, top: Tensor, bottom: Tensor) -> Tensor:
    """(B, 64, h, w) by the kernels of inner cells, with the border by kernels of its own.

    Args:
        inner: (B, 64, h, w).
        left, right: (B, 64, h, 1).
        top, bottom: (B, 3 * 64, 1, w), by the kernels of first, inner and last columns.
    """
    rows = torch.cat([left[:, :, 1:-1], inner[:, :, 1:-1, 1:-1], right[:, :, 1:-1]], dim=3)
    return torch.cat([_ends(top), rows, _ends(bottom)], dim=2)


def _ends(strip: Tensor) -> Tensor:
    """A border row from its values by the kernels of the three cases of columns."""
    start, middle, end = strip.chunk(3, dim=1)
    return torch.cat([start[..., :1], middle[..., 1:-1], end[..., -1:]], dim=3)


def pieces_of(branches: Sequence) -> Pieces:
    """What the channels of click encoders are of the previous mask, where no click is.

    Args:
        branches: `click_stem.Branch`; the first input of their `conv1` is the mask.
    """
    pieces = Pieces()
    for branch in branches:
        weight = branch.conv1.weight.double()[:, 0, 0, 0]
        pieces.add(weight, branch.conv1.bias.double(), branch.slope)
    return pieces
