"""SFI alone, at the size of its own map: which direction of eq. 4 carries clicks further?

    python experiments/studies/propagation.py --data DIR[,DIR] --out OUT

A stand-in for `modules.py` that takes a minute: no host, but the package's own SFI between small
convolutions on the 8x8 cells of a crop. In: where the clicks are, and mean colours of the cells
(and f_low's means, in the arms that have it); out: the share of each cell that is object. The
affinity is of EfficientNet-Lite0's f_high, by two views that are trained and start as one whitened
view. All arms have the same samples and steps. docs/paper.md has what came of it.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from kept_maps import World
from modules import Arm, network
from torch import Tensor, nn
from torch.nn import functional as F

from fdrn_adapter.features.intake import Intake
from fdrn_adapter.features.recycling import affinity, recycle
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.grafts.integration import SemanticFeatureIntegration
from fdrn_adapter.training.batched.clicks import Clicks, first_clicks
from fdrn_adapter.training.batched.corpus import Corpus
from fdrn_adapter.training.batched.disks import FastDisks

SIZE, CELLS = 128, 8
TRAINED, HELD_OUT = 1536, 384  # crops
BATCH, EPOCHS, CHANNELS, VALUES, KEYS = 32, 8, 16, 64, 64
ARMS = {
    f"{levels}{direction or 'no f_high'}": (direction, bool(levels))
    for levels in ("", "f_low, ") for direction in ("", "gather", "literal")
}


def cells(x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, CELLS)


@torch.no_grad()
def samples(world: World, corpus: Corpus, encoder: nn.Module, count: int, seed: int) -> dict:
    """What the arms train on: clicks, colours, f_low and f_high of `count` crops, by cells."""
    generator = torch.Generator().manual_seed(seed)
    draw, parts = FastDisks(5), []
    for _ in range(count // 64):
        batch = corpus.batch(64, SIZE, 1, 0.25, generator)
        clicks = Clicks(64, 12)
        first_clicks(clicks, batch.mask, batch.void, generator)
        numbers = batch.embedding[:, 0]
        placed = recycle(world.maps.maps_of(encoder, numbers, batch.mirrored), batch.rois)
        high, low = (
            placed.take(Intake(level, (level,), Grid(stride)), (SIZE, SIZE))
            for level, stride in (("high", 16), ("low", 4))
        )
        parts.append({
            "clicks": F.adaptive_max_pool2d(draw(batch.image, clicks.points), CELLS),
            "colours": cells(batch.image), "low": cells(low), "high": high,
            "mask": cells(batch.mask.float()),
        })
    return {name: torch.cat([p[name] for p in parts]) for name in parts[0]}


class Propagation(nn.Module):
    """Clicks to shares of cells, with the package's SFI in between or without.

    Args:
        direction: of eq. 4; "" for none.
        low: whether f_low is seen.
        like: samples, whose statistics the affinity starts from.
        seed: of the weights.
    """

    def __init__(self, direction: str, low: bool, like: dict, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        seen = 5 + low * like["low"].shape[1]
        self.low, self.direction = low, direction
        self.first = nn.Sequential(nn.Conv2d(seen, CHANNELS, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU(), nn.Conv2d(CHANNELS, 1, 1)
        )
        if not direction:
            return
        self.sfi = SemanticFeatureIntegration(
            CHANNELS, False, None, VALUES, shortcut_kernel=3, affinity=direction
        )
        flat = like["high"].transpose(0, 1).flatten(1)
        values, axes = torch.linalg.eigh(torch.cov(flat))
        whitening = axes[:, -KEYS:].T / values[-KEYS:].sqrt()[:, None] * KEYS**-0.25
        self.key, self.query = (nn.Conv2d(len(flat), KEYS, 1) for _ in range(2))
        for view in (self.key, self.query):
            view.weight.data = whitening[..., None, None].clone()
            view.bias.data = -whitening @ flat.mean(1)

    def forward(self, batch: dict) -> Tensor:
        seen = [batch["clicks"], batch["colours"]] + [batch["low"] / 2] * self.low
        f = self.first(torch.cat(seen, 1))
        if self.direction:
            f = self.sfi(f, affinity(self.key(batch["high"]), self.query(batch["high"])))
        return self.second(f)


def iou(logits: Tensor, mask: Tensor) -> float:
    """Mean over crops of the IoU of shares."""
    found = torch.sigmoid(logits)
    both = torch.minimum(found, mask).sum((1, 2, 3))
    return float((both / torch.maximum(found, mask).sum((1, 2, 3)).clamp(min=1e-6)).mean())


def curve(net: Propagation, train: dict, held_out: dict, seed: int) -> list[float]:
    """IoU of the held-out crops after each epoch."""
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    generator, found = torch.Generator().manual_seed(seed), []
    for _ in range(EPOCHS):
        for chosen in torch.randperm(TRAINED, generator=generator).split(BATCH):
            batch = {name: values[chosen] for name, values in train.items()}
            loss = F.binary_cross_entropy_with_logits(net(batch), batch["mask"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            found.append(round(iou(net(held_out), held_out["mask"]), 4))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    encoder = network(Arm({"use_mid": True}), 0).image_encoder
    world = World(args.data, args.out, encoder)
    train, held_out = (
        samples(world, world.corpus(pictures), encoder, count, seed) for pictures, count, seed in
        ((world.train, TRAINED, 0), (world.held_out, HELD_OUT, 1))
    )
    file = args.out / "propagation.json"
    done = json.loads(file.read_text()) if file.is_file() else {}
    for seed in range(args.seeds):
        for name, (direction, low) in ARMS.items():
            if f"{name}/{seed}" not in done:
                net = Propagation(direction, low, train, seed)
                done[f"{name}/{seed}"] = curve(net, train, held_out, seed)
                file.write_text(json.dumps(done))
    print(f"IoU of {HELD_OUT} held-out crops after epochs 1 to {EPOCHS}; {args.seeds} seeds")
    for name in ARMS:
        runs = np.array([done[f"{name}/{seed}"] for seed in range(args.seeds)])
        spread = runs[:, -1].std(ddof=1) if len(runs) > 1 else 0.0
        means = " ".join(f"{v:.3f}" for v in runs.mean(axis=0))
        print(f"{name:18} {means} +- {spread:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
