"""What a training step minimises."""

import torch
from torch import Tensor
from torch.nn import functional as F

NEAR_CLICKS = 3.0  # what a pixel under or beside a click weighs more than another
AUXILIARY = 0.4
NEGATIVE = 2.0  # what a negative click weighs in `under_clicks`; a positive one weighs 1


def normalized_focal(
    logits: Tensor, target: Tensor, weight: Tensor, gamma: float = 2.0, alpha: float = 0.5
) -> Tensor:
    """Normalized focal loss of RITM: a scalar.

    The focal weights (1 - p_t)^gamma of each sample are scaled to a mean of 1 over its pixels that
    count; no gradient flows through the scale.

    Args:
        logits: (B, 1, H, W).
        target: (B, 1, H, W) bool.
        weight: (B, 1, H, W), 0 where a pixel does not count.
        gamma, alpha: as in RITM.
    """
    counts = (weight > 0).to(logits.dtype)
    p = torch.sigmoid(logits)
    p_t = torch.where(target, p, 1 - p)
    focal = (1 - p_t) ** gamma * counts
    pixels = counts.sum((1, 2, 3), keepdim=True)
    scale = (pixels / (focal.sum((1, 2, 3), keepdim=True) + 1e-8)).detach()
    a = torch.where(target, alpha, 1 - alpha)
    loss = -a * focal * scale * torch.log((p_t + 1e-8).clamp(max=1.0)) * weight
    return (loss.sum((1, 2, 3)) / pixels.flatten().clamp(min=1)).mean()


def under_clicks(logits: Tensor, target: Tensor, void: Tensor, click_maps: Tensor) -> Tensor:
    """Binary cross entropy under the clicks' disks, where the click tells the truth: a scalar.

    The focal loss is content with a logit of -1.8 under a negative click; this one goes on.

    Args:
        logits, target, void: as of `loss_of`.
        click_maps: (B, 2, H, W), disks of the positive and of the negative clicks.
    """
    total = logits.new_zeros(())
    for said, sign, weight in ((target, -1.0, 1.0), (~target, 1.0, NEGATIVE)):
        disks = click_maps[:, :1] if said is target else click_maps[:, 1:]
        true = (disks > 0) & said & ~void
        total = total + weight * (F.softplus(sign * logits) * true).sum() / true.sum().clamp(min=1)
    return total


def loss_of(
    outputs: dict[str, Tensor], target: Tensor, void: Tensor, click_maps: Tensor,
    clicked: float = 0.0,
) -> Tensor:
    """The loss of a network's outputs: a scalar.

    Args:
        outputs: "instances" (B, 1, H, W) and, of networks that have it, "instances_aux".
        target: (B, 1, H, W) bool, the object.
        void: (B, 1, H, W) bool, pixels that do not count.
        click_maps: (B, 2, H, W) disks of the clicks; the pixels there weigh more.
        clicked: what `under_clicks` weighs.
    """
    near = F.max_pool2d(click_maps.amax(1, keepdim=True).float(), 5, 1, 2)
    weight = (1 + NEAR_CLICKS * near) * ~void
    logits = outputs["instances"].float()
    loss = normalized_focal(logits, target, weight)
    if clicked:
        loss = loss + clicked * under_clicks(logits, target, void, click_maps)
    auxiliary = outputs.get("instances_aux")
    if auxiliary is not None:
        plain = F.binary_cross_entropy_with_logits(
            auxiliary.float(), target.float(), reduction="none"
        )
        loss = loss + AUXILIARY * (plain * ~void).sum() / (~void).sum().clamp(min=1)
    return loss


@torch.no_grad()
def mean_iou(logits: Tensor, target: Tensor, void: Tensor) -> Tensor:
    """Mean over a batch of the IoU of what is above 0 with the object, void left out."""
    found = (logits > 0) & ~void
    wanted = target & ~void
    both = (found & wanted).sum((1, 2, 3))
    return (both / (found | wanted).sum((1, 2, 3)).clamp(min=1)).mean()
