"""FocalClick's second stage, computed with fewer numbers between its two graphs.

The stage aligns the coarse stage's features (96 to 512 channels) to the focus crop and starts with
a 1x1 convolution to 32. A 1x1 convolution without bias and ROI Align commute, since both are linear
and ROI Align fills with zeros; so the convolution moves into the graph of the click (`project`) and
an eighth of the channels is aligned. The two predictions become one convolution, and are upsampled
by products with small matrices.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from fdrn_adapter.engines.rewrites import affine_of, parts_of, separable

_LAYERS = ("image_conv1", "image_conv2", "image_conv3", "refine_fusion2", "refine_fusion3")


def fits(refiner: nn.Module | None) -> bool:
    """Whether a refiner has the parts that are rewritten."""
    if not all(hasattr(refiner, name) for name in (*_LAYERS, "refine_fusion")):
        return False
    conv, norm, _ = parts_of(refiner.refine_fusion)
    last = [getattr(refiner, name, None) for name in ("refine_pred", "refine_trimap")]
    return (
        isinstance(norm, nn.BatchNorm2d) and conv is not None and conv.kernel_size == (1, 1)
        and conv.groups == 1 and conv.in_channels != conv.out_channels  # features tell by channels
        and all(isinstance(c, nn.Conv2d) and c.out_channels == 1 for c in last)
        and last[0].kernel_size == last[1].kernel_size and last[0].padding == last[1].padding
    )


def projection(refiner: nn.Module) -> nn.Conv2d:
    """The linear part of `refine_fusion`: what the coarse stage's features are projected by."""
    conv, norm, _ = parts_of(refiner.refine_fusion)
    scale, _ = affine_of(norm)
    made = nn.Conv2d(conv.in_channels, conv.out_channels, 1, bias=False)
    with torch.no_grad():
        made.weight.copy_(conv.weight.double() * scale.view(-1, 1, 1, 1))
    return made.eval().requires_grad_(False)


def on_focus_crop(features: Tensor, side: int, boxes: Tensor) -> Tensor:
    """Features of the coarse stage under a focus crop of side x side, as the host aligns them."""
    rows, cols = (int(n) for n in features.shape[2:])
    return roi_align(features, boxes, [rows, cols], cols / side, aligned=True)


class Refiner(nn.Module):
    """Stands in for the host's `refiner`, behind the projection and the two ROI Aligns.

    Args:
        refiner: the stock module, in eval mode, of a private copy.
    """

    @torch.no_grad()
    def __init__(self, refiner: nn.Module):
        super().__init__()
        conv, norm, self.activation = parts_of(refiner.refine_fusion)
        scale, shift = affine_of(norm)
        bias = shift if conv.bias is None else shift + conv.bias.double() * scale
        self.register_buffer("bias", bias.float().view(1, -1, 1, 1))
        for name in _LAYERS:
            setattr(self, name, getattr(refiner, name))
        pred, trimap = refiner.refine_pred, refiner.refine_trimap
        self.last = nn.Conv2d(pred.in_channels, 2, pred.kernel_size, padding=pred.padding)
        self.last.weight.copy_(torch.cat([pred.weight, trimap.weight]))
        self.last.bias.copy_(torch.cat([pred.bias, trimap.bias]))

    def forward(self, image: Tensor, maps: Tensor, features: Tensor, logits: Tensor) -> Tensor:
        """Refined logits (B, 1, S, S).

        Args:
            image: (B, 3, S, S), the focus crop in [0, 1].
            maps: (B, 2, S, S) of its clicks.
            features: (B, 32, h, w), projected, then aligned to the focus crop.
            logits: (B, 1, S, S) of the coarse stage, aligned likewise.
        """
        x = torch.cat([image, maps, torch.sigmoid(logits)], dim=1)
        x = self.image_conv3(self.image_conv2(self.image_conv1(x)))
        features = self.activation(features + self.bias)
        x = x + F.interpolate(features, size=x.shape[2:], mode="bilinear", align_corners=True)
        x = self.last(self.refine_fusion3(self.refine_fusion2(x)))
        refined, doubt = separable(x, image.shape[2:], align_corners=True).split(1, dim=1)
        share = torch.sigmoid(doubt)
        return refined * share + logits * (1 - share)
