"""A better start for what reads a frozen F1 than random weights (not in the paper)."""

import torch
from torch import Tensor, nn

from fdrn_adapter.encoders.image_encoder import VIEW_CHANNELS, ImageEncoder


@torch.no_grad()
def start_views(
    encoder: ImageEncoder, high: Tensor | None, low: Tensor | None = None, sharpness: float = 1.0
) -> None:
    """Start the views of f_high, and the projection of f_low, from some images' features.

    Let the affinity (eq. 2 and 3) start as the similarity of the backbone's own features: both
    views become the same whitened principal components of f_high, in the middle of their 3x3
    kernels, so that K Q^T is a similarity from the first step on. At random weights it is noise,
    often of a size at which the softmax passes no gradient.

    What enters the host (the projection of f_low, the context) keeps its random weights, scaled to
    outputs of mean 0 and deviation 1. Features of a pretrained backbone can be ten times as large
    as those of a host that starts at random, and would drown them, clicks included.

    Changes the encoder in place. (Learning rates scaled down to these small weights, by the stock
    `lr_mult`, were tried on the light recipe: training IoU after 1,200 samples 0.16 instead of
    0.3.)

    Args:
        encoder: its backbone's weights are to be kept.
        high: (N, C, h, w), f_high of some images, N*h*w well above C; None leaves its views as they
            are.
        low: (N, C, h, w), f_low of some images; None leaves its projection as it is.
        sharpness: standard deviation of the entries of K Q^T between unrelated places. A place's
            product with itself is then about 5 (EfficientNet-Lite0; at 2 the softmax gives a place
            0.8 of its own weight, and little to those that resemble it).

    Raises:
        ValueError: the encoder has no f_high, or the maps are of other channels.
    """
    if high is not None:
        _check(encoder, high)
        _start_affinity(encoder, high, sharpness)
        if encoder.context_view is not None:
            _standardize(encoder.context_view, high)
    if encoder.low_projection is not None and low is not None:
        _standardize(encoder.low_projection, low)


def _check(encoder: ImageEncoder, high: Tensor) -> None:
    if encoder.key_view is None:
        raise ValueError("This encoder has no views of f_high (use_high=False).")
    channels = encoder.key_view.in_channels
    if high.ndim != 4 or high.shape[1] != channels or high[:, 0].numel() <= channels:
        raise ValueError(
            f"high should have the shape (N, {channels}, h, w) with more than {channels} places; "
            f"got {tuple(high.shape)}."
        )


def _start_affinity(encoder: ImageEncoder, high: Tensor, sharpness: float) -> None:
    cells = high.permute(1, 0, 2, 3).flatten(1).double()  # (C, places)
    mean = cells.mean(dim=1, keepdim=True)
    variances, axes = torch.linalg.eigh(torch.cov(cells))  # ascending
    kept = min(len(cells), VIEW_CHANNELS)
    variances, axes = variances[-kept:], axes[:, -kept:]
    whitening = axes.T / variances.clamp(min=1e-6 * variances.max()).sqrt()[:, None]  # (kept, C)
    # Products of two vectors of `kept` unit-variance numbers have the deviation sqrt(kept).
    whitening *= (sharpness / kept**0.5) ** 0.5
    bias = -(whitening @ mean)[:, 0]
    for view in (encoder.key_view, encoder.query_view):
        view.weight.zero_()
        view.weight[:kept, :, 1, 1] = whitening.to(view.weight)
        view.bias.zero_()
        view.bias[:kept] = bias.to(view.bias)


def _standardize(conv: nn.Conv2d, x: Tensor) -> None:
    """Scale and shift a convolution so that each output channel has mean 0 and deviation 1."""
    out = conv(x.to(conv.weight)).transpose(0, 1).flatten(1)  # (C, places)
    mean, deviation = out.mean(dim=1), out.std(dim=1).clamp(min=1e-6)
    conv.weight /= deviation.view(-1, 1, 1, 1)
    conv.bias.sub_(mean).div_(deviation)
