"""When fewer bits still give the same masks: one measure for CPU and GPU."""

from torch import Tensor

SAME_MASK = 0.995  # IoU with the mask of float32


def mask_iou(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two masks, bool of one shape; two empty ones agree."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
