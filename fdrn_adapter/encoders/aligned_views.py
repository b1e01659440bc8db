"""What the host takes of an embedding: views made after its alignment (not in the paper)."""

import torch
from torch import Tensor, nn

from fdrn_adapter.features.recycling import affinity


class ContextView(nn.Sequential):
    """(B, C, h, w), an embedding on the host's cells at stride 4, to what joins its map there.

    Args:
        channels: C.
        context_channels: of the result.
    """

    def __init__(self, channels: int, context_channels: int):
        super().__init__(
            nn.Conv2d(channels, context_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(context_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, aligned: Tensor) -> Tensor:
        return super().forward(aligned.to(self[0].weight.dtype))


class KeyView(nn.Conv2d):
    """(B, C, h, w), an embedding on the host's cells at stride 16, to their affinity (B, hw, hw).

    One view serves as key and as query: W = K K^T (eq. 2).
    """

    def forward(self, aligned: Tensor) -> Tensor:
        key = super().forward(aligned.to(self.weight.dtype))
        return affinity(key, key)


class AlignedViews(nn.Module):
    """Views of an embedding that lies on the host's cells already.

    The paper makes its two views of f_high over the whole map, once per image, and aligns them.
    Where F1 is frozen, the embedding is what can be kept from one training step to the next, and
    views over whole maps would cost fifty times what views of the crop cost. So the embedding is
    aligned first. One view serves as key and as query: W = K K^T (eq. 2).

    Args:
        channels: of the embedding.
        context_channels: of what joins the host's map at stride 4 in the TFI.
        key_channels: of the view that the affinity compares.
    """

    def __init__(self, channels: int, context_channels: int, key_channels: int):
        super().__init__()
        self.context_channels = context_channels
        self.context_view = ContextView(channels, context_channels) if context_channels else None
        self.key_view = KeyView(channels, key_channels, 1)

    @torch.no_grad()
    def start(self, deviations: Tensor) -> None:
        """Let the affinity start as the similarity of whitened components.

        Works in place. A place's product with itself is then about the square root of
        `key_channels`, and with an unrelated place about 1.

        Args:
            deviations: (channels,) of the embedding's components, in falling order.
        """
        keys = self.key_view.out_channels
        self.key_view.weight.zero_()
        self.key_view.bias.zero_()
        for i in range(min(keys, len(deviations))):
            self.key_view.weight[i, i] = keys**-0.25 / deviations[i]
