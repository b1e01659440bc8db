"""All pictures of a training: draws objects, and loads what a step needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fdrn_adapter.training.batched import crops
from fdrn_adapter.training.batched.embeddings import Embeddings
from fdrn_adapter.training.batched.pictures import SIDE, KeptPicture


@dataclass
class Batch:
    """What a step learns from; B crops of S x S pixels.

    Attributes:
        image: (B, 3, S, S) in [0, 1].
        mask, others, void: (B, 1, S, S) bool: the object, other objects, what does not count.
        rois: (B, 4) float64 on the CPU, on the canvas: a square of SIDE pixels with the picture at
            its top left, mirrored as a whole where the crops are.
        embedding: (B, C, n, n) half, of the canvas, as it is (not mirrored); None without.
        canvas: (B, 3, SIDE, SIDE) in [0, 1], mirrored where the crops are; None where it is not
            asked for.
        mirrored: whether the crops are.
    """

    image: Tensor
    mask: Tensor
    others: Tensor
    void: Tensor
    rois: Tensor
    embedding: Tensor | None
    canvas: Tensor | None
    mirrored: bool


class Corpus:
    """Pictures to draw from.

    A picture's weight is the square root of the number of its objects: a crowd counts more than a
    portrait, but not by as much as it has people. The sources share the samples as `shares` says.

    Args:
        pictures: with one object at least, each.
        embeddings: of all of them, where a frozen encoder's are used.
        shares: of each source; by their numbers of pictures where None.
        device: of the batches.

    Raises:
        ValueError: no picture, or a share for another number of sources.
    """

    def __init__(
        self, pictures: Sequence[KeptPicture], embeddings: Embeddings | None = None,
        shares: Sequence[float] | None = None, device: torch.device | str = "cpu",
    ):
        self.pictures = [p for p in pictures if p.objects]
        if not self.pictures:
            raise ValueError("There is no picture with an object that is large enough.")
        self.embeddings, self.device = embeddings, torch.device(device)
        self.weights = torch.tensor([len(p.objects) ** 0.5 for p in self.pictures]).double()
        if shares is not None:
            self._share(shares)

    def _share(self, shares: Sequence[float]) -> None:
        sources = torch.tensor([p.source for p in self.pictures])
        count = int(sources.max()) + 1
        if len(shares) < count or min(shares) < 0 or not sum(shares):
            raise ValueError(
                f"There are {count} data sets, and the shares are {list(shares)}: give one for "
                "each, none below 0."
            )
        for source, share in enumerate(shares):
            mine = sources == source
            self.weights[mine] *= share / self.weights[mine].sum().clamp(min=1e-12)

    def draw(
        self, count: int, crops_each: int, generator: torch.Generator
    ) -> list[tuple[int, int]]:
        """(picture, object) for `count` crops; one picture gives `crops_each` in a row."""
        images = -(-count // crops_each)
        drawn = torch.multinomial(self.weights, images, replacement=True, generator=generator)
        chosen = []
        for number in drawn.tolist():
            objects = len(self.pictures[number].objects)
            which = torch.randint(0, objects, (crops_each,), generator=generator)
            chosen += [(number, i) for i in which.tolist()]
        return chosen[:count]

    def batch(
        self, count: int, size: int, crops_each: int, whole: float, generator: torch.Generator,
        canvas: bool = False,
    ) -> Batch:
        """Draw and load a batch.

        All of its crops are mirrored, or none: an encoding has one grid.

        Args:
            count: of crops.
            size: their side, pixels.
            crops_each: from each picture.
            whole: share of crops of the whole picture.
            generator: of the CPU.
            canvas: load the whole pictures too.
        """
        chosen = self.draw(count, crops_each, generator)
        pictures = {number: self.pictures[number] for number, _ in chosen}
        pixels = {n: torch.from_numpy(np.array(p.pixels())) for n, p in pictures.items()}
        objects = torch.tensor([pictures[n].objects[i] for n, i in chosen])
        sizes = torch.tensor([pictures[n].size for n, _ in chosen])
        rois = crops.rois_around(objects[:, 1:], sizes, generator, whole)
        mirrored = torch.rand(1, generator=generator).item() < 0.5
        image, mask, others, void = crops.cut(
            [pixels[n] for n, _ in chosen], objects[:, 0], rois, size, mirrored
        )
        if mirrored:
            rois = crops.mirrored_rois(rois, SIDE)
        embedding = None
        if self.embeddings is not None:
            maps = {n: self._on_canvas(n) for n in pictures}
            embedding = torch.stack([maps[n] for n, _ in chosen])
        whole_images = self._canvases(pixels, chosen, mirrored) if canvas else None
        return Batch(
            *(t.to(self.device) for t in (image, mask, others, void)), rois,
            *(None if t is None else t.to(self.device) for t in (embedding, whole_images)),
            mirrored,
        )

    def _on_canvas(self, number: int) -> Tensor:
        """An embedding (C, h, w) as (C, n, n), its last row and column going on."""
        kept = self.embeddings.of(self.pictures[number].image_sha256)
        found = torch.from_numpy(np.array(kept))
        cells = max(found.shape[1:])
        pad = (0, cells - found.shape[2], 0, cells - found.shape[1])
        return F.pad(found[None], pad, mode="replicate")[0] if any(pad) else found

    def _canvases(self, pixels: dict[int, Tensor], chosen: list, mirrored: bool) -> Tensor:
        """(B, 3, SIDE, SIDE) whole pictures, gray beyond them."""
        made = torch.full((len(chosen), 3, SIDE, SIDE), 0.5)
        for b, (number, _) in enumerate(chosen):
            rows, cols = pixels[number].shape[1:]
            made[b, :, :rows, :cols] = pixels[number][:3].float() / 255
        return made.flip(-1) if mirrored else made
