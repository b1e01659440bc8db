"""How recycled image features enter the host (Sec. 3.3.1, Fig. 2 b and c)."""

import torch
from torch import Tensor, nn

# Which way A of eq. 3, whose columns sum to 1, spreads the values of eq. 4. "literal": X = A V, so
# each place scatters its value with weights that sum to 1 where they leave. "gather": X = A^T V, as
# in the memory networks that the equations come from: each place takes a mean over all places.
DIRECTIONS = ("gather", "literal")


class ResBlock(nn.Module):
    """Project concat(x, f) back to the C channels of f.

    Two 3x3 convolutions with a shortcut. With `identity` the block returns f until it is trained:
    the shortcut selects f, the last layer of the residual is zero, and, unlike a usual ResBlock,
    there is no activation after the sum.

    Args:
        channels: C of f.
        extra: channels of x.
        identity: see above.
        norm_layer: the host's norm; None for convolutions with biases and no norms.
        shortcut_kernel: side of the shortcut's kernel, odd. 3 fits the paper's parameter counts
            (Table 2), as in the space-time memory networks that eq. 2 and 3 come from; 1 is what
            this package had before.
    """

    def __init__(
        self, channels: int, extra: int, identity: bool, norm_layer: type[nn.Module] | None = None,
        shortcut_kernel: int = 1,
    ):
        super().__init__()
        total, middle = channels + extra, shortcut_kernel // 2

        def layers(width: int, kernel: int) -> list[nn.Module]:
            conv = nn.Conv2d(
                width, channels, kernel, padding=kernel // 2, bias=norm_layer is None
            )
            return [conv] if norm_layer is None else [conv, norm_layer(channels)]

        self.residual = nn.Sequential(
            *layers(total, 3), nn.ReLU(inplace=True), *layers(channels, 3)
        )
        if identity:
            last = self.residual[-1]
            shortcut = nn.Conv2d(
                total, channels, shortcut_kernel, padding=middle, bias=norm_layer is None
            )
            for zero in (*shortcut.parameters(), *last.parameters()):
                nn.init.zeros_(zero)
            with torch.no_grad():
                shortcut.weight[:, extra:, middle, middle] = torch.eye(channels)
            self.shortcut, self.activation = shortcut, nn.Identity()
        else:
            self.shortcut = nn.Sequential(*layers(total, shortcut_kernel))
            self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, f: Tensor) -> Tensor:
        both = torch.cat([x, f], dim=1)  # (B, extra + C, h, w)
        return self.activation(self.shortcut(both) + self.residual(both))


class SemanticFeatureIntegration(nn.Module):
    """Spread the host's high-level features over similar places of the image (SFI, eq. 2 to 4).

    The paper does not say how wide the values of eq. 4 are. 256 channels, shortcuts of 3x3 and
    convolutions with biases instead of norms fit its parameter counts (Table 2) within 1%.

    Args:
        channels: C of the host's map at stride 16.
        identity: return the input until trained.
        norm_layer: see `ResBlock`.
        value_channels: of the values that A gathers; C where None.
        shortcut_kernel: see `ResBlock`.
        affinity: "gather" or "literal", see `DIRECTIONS`.
    """

    def __init__(
        self, channels: int, identity: bool, norm_layer: type[nn.Module] | None = None,
        value_channels: int | None = None, shortcut_kernel: int = 1, affinity: str = "literal",
    ):
        super().__init__()
        value_channels = channels if value_channels is None else value_channels
        self.affinity = affinity
        self.conv = nn.Conv2d(channels, value_channels, 3, padding=1)
        self.block = ResBlock(channels, value_channels, identity, norm_layer, shortcut_kernel)

    def forward(self, f: Tensor, weights: Tensor) -> Tensor:
        """f: (B, C, h, w); weights: (B, hw, hw) from `affinity`. Returns (B, C, h, w)."""
        values = self.conv(f).flatten(2).transpose(1, 2)  # (B, hw, Cv)
        if self.affinity == "gather":
            weights = weights.transpose(1, 2)
        x = (weights @ values).transpose(1, 2)
        x = x.reshape(f.shape[0], values.shape[2], *f.shape[-2:])
        return self.block(x, f)


class TextureFeatureIntegration(nn.Module):
    """Add the image's texture to the host's low-level features (TFI).

    Args:
        channels: C of the host's map at stride 4.
        extra: channels of the image encoder's low-level map.
        identity: return the input until trained.
        norm_layer: see `ResBlock`.
        shortcut_kernel: see `ResBlock`.
    """

    def __init__(
        self, channels: int, extra: int, identity: bool, norm_layer: type[nn.Module] | None = None,
        shortcut_kernel: int = 1,
    ):
        super().__init__()
        self.block = ResBlock(channels, extra, identity, norm_layer, shortcut_kernel)

    def forward(self, f: Tensor, texture: Tensor) -> Tensor:
        """f: (B, C, h, w); texture: (B, extra, h, w), aligned. Returns (B, C, h, w)."""
        return self.block(texture, f)
