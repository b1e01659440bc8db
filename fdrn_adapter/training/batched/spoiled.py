"""Wrong previous masks: what makes negative clicks needed from the first step on."""

import torch
from torch import Tensor
from torch.nn import functional as F

from fdrn_adapter.training.batched.clicks import grown


def spoiled(mask: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
    """A wrong mask of each object, with soft borders.

    35%: the neighbours taken in (a blob beside where there is none); 20%: grown; 15%: with a blob;
    10%: shifted; 10%: with a part missing; 10%: shrunk, with a blob.

    Args:
        mask: (B, 1, S, S) bool, the objects.
        others: (B, 1, S, S) bool, what else is labelled.

    Returns:
        (B, 1, S, S) probabilities.
    """
    batch, side, device = len(mask), mask.shape[-1], mask.device
    object_ = mask.float()

    def uniform() -> Tensor:
        return torch.rand(batch, 1, 1, 1, device=device, generator=generator)

    coarse = torch.randn(batch, 1, 5, 5, device=device, generator=generator)
    noise = F.interpolate(coarse, (side, side), mode="bicubic", align_corners=True)
    blob = (noise > 0.6).float()
    with_blob = torch.maximum(object_, blob * grown(mask, side // 4))
    has_others = others.flatten(1).any(1).view(-1, 1, 1, 1)
    with_others = torch.where(has_others, torch.maximum(object_, others.float()), with_blob)
    larger = torch.where(uniform() < 0.5, grown(mask, side // 32), grown(mask, side // 10))
    smaller = 1 - grown(1 - object_, side // 32)
    kinds = torch.stack([
        with_others, larger, with_blob, _shifted(object_, generator), object_ * (1 - blob),
        torch.maximum(smaller, blob * grown(mask, side // 4)),
    ])
    limits = torch.tensor([0.35, 0.55, 0.7, 0.8, 0.9], device=device)
    kind = torch.bucketize(uniform().flatten(), limits)
    wrong = kinds[kind, torch.arange(batch, device=device)]
    soft = F.avg_pool2d(F.pad(wrong, (2, 2, 2, 2), mode="replicate"), 5, 1)
    return soft * (0.75 + 0.25 * uniform())


def _shifted(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Each mask moved by a twelfth of the crop along both axes, in one of four directions."""
    step = max(1, round(mask.shape[-1] * 0.08))
    ways = torch.stack([
        torch.roll(mask, (step * a, step * b), (2, 3)) for a in (-1, 1) for b in (-1, 1)
    ])
    way = torch.randint(0, 4, (len(mask),), device=mask.device, generator=generator)
    return ways[way, torch.arange(len(mask), device=mask.device)]
