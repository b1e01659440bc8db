"""Pictures, kept maps of a frozen encoder, and held-out objects: what `modules.py` trains on."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fdrn_adapter.evaluation.datasets.for_training import open_pictures
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.hosts.catalogue import encoder_of
from fdrn_adapter.training.batched import crops, disks
from fdrn_adapter.training.batched.clicks import Clicks, answer, first_clicks
from fdrn_adapter.training.batched.corpus import Batch, Corpus
from fdrn_adapter.training.batched.pictures import SIDE, KeptPicture, keep
from fdrn_adapter.training.batched.plan import Plan
from fdrn_adapter.training.batched.stepper import Stepper, mirrored_grid

LEVELS = ("low", "mid", "high")
SEEN_SIDE = 320  # of the canvas that F1 sees, pixels
MIN_SHARE = 0.02  # of the picture that an object covers at least
CROP = 96
HELD_OUT, CLICKS = 64, 3  # objects of the evaluation, and clicks on each

class FrozenMaps:
    """f_low, f_mid and f_high of all pictures on their canvases, in a file each.

    Args:
        encoder: with a frozen backbone.
        pictures: in the order of their numbers.
        folder: where the maps are kept.
    """

    def __init__(self, encoder: nn.Module, pictures: list[KeptPicture], folder: Path):
        self.numbers = {p.image_sha256: i for i, p in enumerate(pictures)}
        files = [folder / f"{name}_{len(pictures)}.npy" for name in LEVELS]
        if not all(file.is_file() for file in files):
            maps = zip(*(self._encoded(encoder, p) for p in pictures), strict=True)
            for file, stacked in zip(files, maps, strict=True):
                np.save(file, np.stack(stacked))
        self.maps = {
            name: torch.from_numpy(np.load(file, mmap_mode="c"))
            for name, file in zip(LEVELS, files, strict=True)
        }

    @staticmethod
    @torch.no_grad()
    def _encoded(encoder: nn.Module, picture: KeptPicture) -> tuple[np.ndarray, ...]:
        canvas = torch.full((1, 3, SIDE, SIDE), 0.5)
        pixels = torch.from_numpy(np.array(picture.pixels()[:3])).float() / 255
        canvas[0, :, : pixels.shape[1], : pixels.shape[2]] = pixels
        small = encoder.resized(canvas, SEEN_SIDE)
        maps = encoder.backbone((small - encoder.mean) / encoder.std)
        return tuple(m[0].half().numpy() for m in maps)

    def of(self, sha256: str) -> np.ndarray:
        """The number of a picture: what `Corpus` hands on as its embedding."""
        return np.array([self.numbers[sha256]])

    def features(self, encoder: nn.Module, numbers: Tensor, mirrored: bool) -> ImageFeatures:
        """Image features of canvases, mirrored if wanted."""
        read = self.maps_of(encoder, numbers, mirrored)
        features = encoder.features_of(
            **{name: read.maps.get(name) for name in LEVELS}, size=(SEEN_SIDE, SEEN_SIDE)
        )
        features.image_size = (SIDE, SIDE)
        if mirrored:
            features.grids = {
                name: _mirrored(grid, features.maps[name]) for name, grid in features.grids.items()
            }
        return features

    def maps_of(self, encoder: nn.Module, numbers: Tensor, mirrored: bool) -> ImageFeatures:
        """The backbone's own maps of canvases, by level, before any view."""
        maps, grids = {}, {}
        for level, tap in encoder.backbone.taps.items():
            kept = self.maps[level][numbers.cpu()].to(numbers.device).float()
            maps[level] = kept.flip(-1) if mirrored else kept
            grids[level] = _mirrored(tap.grid, kept) if mirrored else tap.grid
        return ImageFeatures(
            maps, grids, (SIDE, SIDE), (SEEN_SIDE, SEEN_SIDE), encoder.architecture
        )


def _mirrored(grid: Grid, features: Tensor) -> Grid:
    return mirrored_grid(grid, SEEN_SIDE, features.shape[-1])


class NumberedCorpus(Corpus):
    """A corpus whose batches carry numbers of pictures in place of embeddings."""

    def __init__(self, *args: Any, dynamic: bool = True, **options: Any):
        super().__init__(*args, **options)
        self.dynamic = dynamic

    def _on_canvas(self, number: int) -> Tensor:
        return torch.from_numpy(self.embeddings.of(self.pictures[number].image_sha256))

    def batch(self, *args: Any, **options: Any) -> Batch:
        if self.dynamic:
            return super().batch(*args, **options)
        zoom, least = crops.ZOOM, crops.LEAST_PX
        crops.ZOOM, crops.LEAST_PX = (1.4, 1.4), (60, 60)  # the stock zoom-in's margin
        try:
            return super().batch(*args, **options)
        finally:
            crops.ZOOM, crops.LEAST_PX = zoom, least


class MapsStepper(Stepper):
    """Steps on kept maps of F1 instead of an embedding."""

    maps: FrozenMaps

    def _features(self, batch: Batch) -> ImageFeatures:
        return self.maps.features(encoder_of(self.net), batch.embedding[:, 0], batch.mirrored)


def prepared(specs: str, out: Path) -> tuple[list[KeptPicture], list[KeptPicture]]:
    """The pictures with objects: to train on, and every tenth, held out."""
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    kept = [keep(p, out / "pictures", MIN_SHARE) for p in open_pictures(specs)]
    kept = [p for p in kept if p.objects]
    return [p for i, p in enumerate(kept) if i % 10], kept[::10]


class World:
    """Pictures, their maps, and the held-out objects with fixed crops.

    Args:
        specs: data sets as for `fdrn train`.
        out: folder where pictures and maps are kept.
        encoder: with a frozen backbone that reads all levels.
        objects: held out for the evaluation; HELD_OUT where None.
        device: of the batches.
    """

    def __init__(
        self, specs: str, out: Path, encoder: nn.Module, objects: int | None = None,
        device: str = "cpu",
    ):
        self.device = device
        self.out, self.objects = out, HELD_OUT if objects is None else objects
        self.train, self.held_out = prepared(specs, out)
        self.maps = FrozenMaps(encoder.eval(), [*self.train, *self.held_out], out)

    def corpus(self, pictures: list[KeptPicture], dynamic: bool = True) -> NumberedCorpus:
        """Pictures to draw from, of those of this world."""
        return NumberedCorpus(pictures, self.maps, device=self.device, dynamic=dynamic)

    @cached_property
    def batches(self) -> list[Batch]:
        """The held-out objects, the same for all."""
        corpus = self.corpus(self.held_out)
        generator = torch.Generator().manual_seed(1)
        found = [corpus.batch(32, CROP, 1, 0.25, generator) for _ in range(self.objects // 32)]
        return [replace(b, embedding=b.embedding.long()) for b in found]

    @torch.no_grad()
    def held_out_ious(self, net: nn.Module) -> list[float]:
        """Mean IoU after 1 to CLICKS clicks on the held-out objects."""
        net.eval()
        stepper = MapsStepper(net, Plan())
        stepper.maps = self.maps
        found = []
        for batch in self.batches:
            generator = torch.Generator(self.device).manual_seed(2)
            clicks = Clicks(len(batch.mask), 12, self.device)
            first_clicks(clicks, batch.mask, batch.void, generator, extra=0)
            previous, rows = torch.zeros_like(batch.mask, dtype=torch.float32), []
            with disks.fast_click_maps(net), stepper._recycling(batch):
                for _ in range(CLICKS):
                    logits = net(torch.cat([batch.image, previous], 1), clicks.points)["instances"]
                    rows.append(_ious(logits, batch))
                    previous = torch.sigmoid(logits)
                    answer(clicks, previous, batch.mask, batch.void, generator)
            found.append(torch.stack(rows, 1))
        return [round(v, 4) for v in torch.cat(found).mean(0).tolist()]


def _ious(logits: Tensor, batch: Batch) -> Tensor:
    found, wanted = (logits > 0) & ~batch.void, batch.mask & ~batch.void
    both = (found & wanted).sum((1, 2, 3))
    return both / (found | wanted).sum((1, 2, 3)).clamp(min=1)
