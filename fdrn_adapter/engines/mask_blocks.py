"""`mask_term.MaskTerm` over squares of 4x4 pixels, for arithmetic in fewer bits.

Kernels of 11x11 pixels on 13 or 14 channels, 4 pixels apart, give NaN or other numbers in bfloat16
on a processor with AMX, in torch and in OpenVINO, which compute with oneDNN (Xeon, 2026-11-27; it
was `experiments/studies/bf16_layers.py --exact-form` that named them). Here the pixels of a square
are channels, so that the same sums are over 3x3 squares, and multiples of 16 channels.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter.engines.mask_term import STRIDE, MaskTerm, with_borders


class MaskTermInBlocks(nn.Module):
    """Computes what a `MaskTerm` does.

    Args:
        term: stays as it is.
    """

    def __init__(self, term: MaskTerm):
        super().__init__()
        self.reach = term.reach
        self.squares = -(-term.window // STRIDE)  # under a window, along one axis
        self.register_buffer("knots", term.knots.repeat_interleave(STRIDE**2, 1), persistent=False)
        beyond, behind = term.reach, term.window - term.tail
        for name, missing in (  # what lies beyond the border is zero here, so any taps will do
            ("middle", (0, 0, 0, 0)), ("top", (0, 0, beyond, 0)), ("bottom", (0, 0, 0, behind)),
            ("left", (beyond, 0, 0, 0)), ("right", (0, behind, 0, 0)),
        ):
            kernel = F.pad(getattr(term, name), missing)
            kernel = F.pad(kernel, (0, self.squares * STRIDE - term.window) * 2)
            self.register_buffer(name, F.pixel_unshuffle(kernel, STRIDE), persistent=False)

    def forward(self, prev_mask: Tensor) -> Tensor:
        """(B, 64, h, w) of a previous mask (B, 1, H, W) in [0, 1]."""
        n, behind = self.squares, (self.squares - 1) * STRIDE - self.reach
        squares = F.pixel_unshuffle(F.pad(prev_mask, (self.reach, behind) * 2), STRIDE)
        x = F.relu(squares.repeat(1, self.knots.shape[1] // STRIDE**2, 1, 1) - self.knots)
        return with_borders(
            F.conv2d(x, self.middle),
            left=F.conv2d(x[..., :n], self.left), right=F.conv2d(x[..., -n:], self.right),
            top=F.conv2d(x[:, :, :n], self.top), bottom=F.conv2d(x[:, :, -n:], self.bottom),
        )
