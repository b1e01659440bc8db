"""What a training does: how many samples of which size, and at which learning rate."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from fdrn_adapter.model.inference import Inference

# What a crop costs grows a little slower than its pixels: with the same memory and time a step at
# 192 pixels takes half as many samples as one at 128, at 256 a third.
_COST = 1.7
MIN_BATCH = 2  # batch norm needs two
_FIT_SHARE = 0.2  # of the samples that a size should have for crops of it to be the default


@dataclass(frozen=True)
class Plan:
    """See the top of this file. The defaults are the recipe of the zoo's sam-hrnet18s.

    Attributes:
        samples: crops that are learnt from.
        sizes: (side of the crops in pixels, share of the samples), in the order of training.
        batch: crops in a step of the first size, over all processes; of larger ones fewer.
        crops: crops from each picture that was loaded for a step.
        lr: highest learning rate of AdamW.
        last_lr: the last learning rate as a share of the highest.
        warmup: steps until the highest, at most a twentieth of all.
        weight_decay: of AdamW, on weights of more than one dimension.
        clip: largest norm of the gradient.
        clicks: most clicks of each sign.
        rounds: most clicks, without gradient, that answer a prediction.
        spoiled: share of the samples that start from a wrong previous mask.
        whole: share of the samples whose crop is the whole picture.
        clicked: what the cross entropy under the clicks weighs, see `losses.under_clicks`.
        seed: of all that is random. Together with the number of a step it says all of it.
    """

    samples: int = 300_000
    sizes: tuple[tuple[int, float], ...] = ((128, 0.6), (192, 0.25), (256, 0.15))
    batch: int = 16
    crops: int = 2
    lr: float = 1.5e-3
    last_lr: float = 0.01
    warmup: int = 300
    weight_decay: float = 0.02
    clip: float = 5.0
    clicks: int = 12
    rounds: int = 3
    spoiled: float = 0.4
    whole: float = 0.25
    clicked: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1 or self.batch < MIN_BATCH or self.crops < 1:
            raise ValueError(
                f"A training has at least 1 sample, {MIN_BATCH} in a batch and 1 crop of a "
                f"picture; got samples={self.samples}, batch={self.batch}, crops={self.crops}."
            )
        bad = [size for size, _ in self.sizes if size < 32 or size % 32]
        total = sum(share for _, share in self.sizes)
        if not self.sizes or bad or abs(total - 1) > 1e-6:
            raise ValueError(
                "sizes are sides of crops, multiples of 32, with shares that sum to 1, such as "
                f"128:.6,192:.25,256:.15; got {self.sizes}."
            )
        if not self.lr > 0:
            raise ValueError(f"lr should be above 0, got {self.lr}.")

    @classmethod
    def fine(cls) -> Plan:
        """For networks that are trained already: lower, shorter. Not compared with others."""
        return cls(samples=20_000, lr=3e-4)

    def size_at(self, seen: int) -> int:
        """Side of the crops when so many samples were seen."""
        limit = 0.0
        for size, share in self.sizes:
            limit += share * self.samples
            if seen < limit:
                return size
        return self.sizes[-1][0]

    def batch_at(self, size: int, processes: int = 1) -> int:
        """Crops of that size in one process's part of a step."""
        whole = self.batch * (self.sizes[0][0] / size) ** _COST
        return max(MIN_BATCH, round(whole / processes))

    def steps(self, processes: int = 1) -> int:
        """How many steps all samples take."""
        seen = step = 0
        while seen < self.samples:
            seen += self.batch_at(self.size_at(seen), processes) * processes
            step += 1
        return step

    def work(self, seen: int = 0) -> float:
        """What the samples after so many cost, counted in samples of 128 pixels."""
        total = end = 0.0
        for size, share in self.sizes:
            start, end = end, end + share * self.samples
            total += max(0.0, end - max(seen, start)) * (size / 128) ** _COST
        return total

    def lr_at(self, step: int, seen: int, steps: int) -> float:
        """The learning rate of a step: up in the first ones, then down a cosine over the samples.

        Args:
            step: from 0.
            seen: samples before it.
            steps: of the whole training, see `steps`.
        """
        warmup = max(1, min(self.warmup, steps // 20))
        done = min(1.0, seen / self.samples)
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        share = self.last_lr + (1 - self.last_lr) * cosine
        return self.lr * share * min(1.0, (step + 1) / warmup)

    def inference(self) -> Inference:
        """How the network is to be used: the largest crop that it saw often, twice at first."""
        often = [size for size, share in self.sizes if share >= _FIT_SHARE]
        return Inference(
            crop=max(often or [self.sizes[-1][0]]), first_twice=True, honour_clicks=True
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a training state."""
        return {**dataclasses.asdict(self), "sizes": [list(pair) for pair in self.sizes]}


def parse_sizes(text: str) -> tuple[tuple[int, float], ...]:
    """Sizes as written on the command line: "128" or "128:.6,192:.25,256:.15".

    Raises:
        ValueError: not of that form.
    """
    try:
        parts = [part.split(":") for part in text.split(",")]
        if len(parts) == 1 and len(parts[0]) == 1:
            return ((int(parts[0][0]), 1.0),)
        return tuple((int(size), float(share)) for size, share in parts)
    except ValueError as error:
        raise ValueError(
            f"Sizes are written 128 or 128:.6,192:.25,256:.15 (side:share, ...), got {text!r}."
        ) from error
