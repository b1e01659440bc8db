"""The size at which an image is encoded."""

from torch import Tensor
from torch.nn import functional as F


def shrink_to(image: Tensor, max_side: int) -> Tensor:
    """An image (B, 3, H, W) with its longest side at most `max_side`; itself if it is small."""
    return image if max(image.shape[-2:]) <= max_side else resized_to(image, max_side)


def resized_to(image: Tensor, side: int) -> Tensor:
    """An image (B, 3, H, W) with its longest side at `side` pixels."""
    longest = max(image.shape[-2:])
    if longest == side:
        return image
    size = [max(1, round(length * side / longest)) for length in image.shape[-2:]]
    options = {"mode": "bilinear", "align_corners": False, "antialias": True}
    if size[1] == 1:  # where torch gives all rows the first one's value, unless these stay
        image = F.interpolate(image, (size[0], image.shape[3]), **options)
    return F.interpolate(image, size, **options)
