"""A better start for the two views of f_high than random weights (not in the paper)."""

import torch
from torch import Tensor

from fdrn_adapter.encoder import VIEW_CHANNELS, ImageEncoder


@torch.no_grad()
def start_views(encoder: ImageEncoder, high: Tensor, sharpness: float = 2.0) -> None:
    """Let the affinity (eq. 2 and 3) start as the similarity of the backbone's own features.

    Both views become the same whitened principal components of f_high, in the middle of their 3x3
    kernels, so that K Q^T is a similarity from the first step on. At random weights it is
    noise, often of a size at which the softmax passes no gradient. Changes the encoder in place.

    Args:
        encoder: its backbone's weights are to be kept.
        high: (N, C, h, w), f_high of some images, N*h*w well above C.
        sharpness: standard deviation of the entries of K Q^T between unrelated places.

    Raises:
        ValueError: the encoder has no f_high, or the maps are of other channels.
    """
    view = encoder.key_view
    if view is None:
        raise ValueError("This encoder has no views of f_high (use_high=False).")
    channels = view.in_channels
    if high.ndim != 4 or high.shape[1] != channels or high[:, 0].numel() <= channels:
        raise ValueError(
            f"high should have the shape (N, {channels}, h, w) with more than {channels} places; "
            f"got {tuple(high.shape)}."
        )
    cells = high.permute(1, 0, 2, 3).flatten(1).double()  # (C, places)
    mean = cells.mean(dim=1, keepdim=True)
    variances, axes = torch.linalg.eigh(torch.cov(cells))  # ascending
    kept = min(channels, VIEW_CHANNELS)
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
