"""Image features placed under crops: aligned when a network asks, and kept while the crop stays."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from fdrn_adapter.errors import FeatureMismatchError
from fdrn_adapter.features import roi
from fdrn_adapter.features.image_features import ImageFeatures
from fdrn_adapter.features.intake import Aligned, Intake
from fdrn_adapter.features.kept import Kept
from fdrn_adapter.features.roi import Grid, Placement


class Recycling:
    """Image features placed under a batch of crops; aligns them on demand and remembers it.

    Built by `recycle`. What an injection takes depends on the rois, the crop size and the size of
    the host's maps only, so it is kept while these stay; nothing is kept that gradients flow
    through.

    Args:
        features: one or several encodings.
        rois: (B, 4) float64, CPU: rmin, rmax, cmin, cmax, inclusive, in image pixels.
        image_index: for each roi, the number of its image, counted through all encodings.
        kept: where results are kept; the encoding's, so that they outlast this object.
    """

    def __init__(
        self, features: Sequence[ImageFeatures], rois: Tensor, image_index: Sequence[int],
        kept: Kept | None = None,
    ):
        self.features, self.rois = tuple(features), rois
        owners = [(f, i) for f in self.features for i in range(f.batch)]
        self.owners = [owners[i] for i in image_index]
        self.kept = Kept() if kept is None else kept
        self._keeps = not any(m.requires_grad for f in self.features for m in f.maps.values())

    @property
    def batch(self) -> int:
        return len(self.owners)

    def aligned(
        self, intakes: Iterable[Intake], crop_size: tuple[int, int], separable: bool = False
    ) -> Aligned:
        """What injections take on crops of this size.

        Args:
            intakes: the model's.
            crop_size: rows and columns of what the host's first convolution sees.
            separable: by `roi.align_separable`, which is faster and rounds in another way.
        """
        return Aligned(
            {i.name: self.take(i, crop_size, separable=separable) for i in intakes}, source=self
        )

    def take(
        self, intake: Intake, crop_size: tuple[int, int], out_size: tuple[int, int] | None = None,
        separable: bool = False,
    ) -> Tensor:
        """What one injection takes.

        Args:
            intake: of the injection.
            crop_size, separable: see `aligned`.
            out_size: rows and columns of the host's map, where they do not follow from the crop's.
        """
        out_size = intake.cells(crop_size) if out_size is None else tuple(out_size)
        where = (tuple(crop_size), intake.grid, out_size, separable)
        learning = intake.learns and torch.is_grad_enabled()

        def compute() -> Tensor:
            if not intake.learns:  # the maps themselves are of no further use
                return intake.combine(*(self._align(name, *where) for name in intake.maps))
            return intake.combine(*(
                self._keep(("aligned", name, *where), lambda n=name: self._align(n, *where))
                for name in intake.maps
            ))

        if learning:
            return compute()
        return self._keep(("taken", *intake.key, *where), compute, intake.stamp())

    def low(
        self, crop_size: tuple[int, int], host: Grid, out_size: tuple[int, int],
        separable: bool = False,
    ) -> Tensor:
        """f_low on the host's cells, followed by the context if there is one: (B, C, *out_size).

        Args:
            crop_size, separable: see `aligned`.
            host: cells of the host's map on the crop.
            out_size: rows and columns of the host's map.
        """
        names = ("low", "context")[: 1 + all("context" in f.maps for f in self.features)]
        return self.take(Intake("low", names, host), crop_size, out_size, separable)

    def affinity(
        self, crop_size: tuple[int, int], host: Grid, out_size: tuple[int, int],
        separable: bool = False,
    ) -> Tensor:
        """A of eq. 3 between the host's cells: (B, hw, hw). Arguments as of `low`."""
        intake = Intake("affinity", ("key", "query"), host, affinity)
        return self.take(intake, crop_size, out_size, separable)

    def _keep(self, key: tuple, compute: Callable[[], Any], stamp: Any = None) -> Any:
        return self.kept.get(key, compute, stamp) if self._keeps else compute()

    def _align(
        self, name: str, crop_size, host: Grid, out_size, separable: bool = False
    ) -> Tensor:
        """One ROI Align per encoding, put back into the order of the batch."""
        pieces: list[Tensor | None] = [None] * self.batch
        for features in self.features:
            rows = [b for b, (owner, _) in enumerate(self.owners) if owner is features]
            if not rows:
                continue
            feature, grid = features.maps[name], features.grids[name]
            index = torch.tensor([self.owners[b][1] for b in rows])
            sizes = torch.tensor(
                [features.image_size, features.input_size], dtype=torch.float64
            )[:, None].expand(-1, len(rows), -1)
            placement = Placement(self.rois[rows], sizes[0], sizes[1], tuple(crop_size))
            where = (grid, host, tuple(out_size))
            if separable:
                size = tuple(feature.shape[2:])
                samplings = self._keep(  # the same for key and query
                    ("samplings", id(features), crop_size, *where, size),
                    lambda p=placement, w=where, s=size: roi.samplings(p, *w, s),
                )
                aligned = roi.align_separable(feature, index, samplings)
            else:
                aligned = roi.align(feature, index, placement, *where)
            if len(rows) == self.batch:
                return aligned
            for b, piece in zip(rows, aligned.split(1), strict=True):
                pieces[b] = piece
        return torch.cat(pieces)


class JoinedRecycling(Recycling):
    """Several recyclings as one batch, each aligned and kept as it would be alone.

    Args:
        parts: in the order of their crops in the batch; of any images, also of the same one.
    """

    def __init__(self, parts: Sequence[Recycling]):
        self.parts = tuple(parts)
        self.features = tuple(f for part in self.parts for f in part.features)
        self.owners = [owner for part in self.parts for owner in part.owners]
        self.rois = torch.cat([part.rois for part in self.parts])
        self.kept = None  # each part has its own

    def take(
        self, intake: Intake, crop_size: tuple[int, int], out_size: tuple[int, int] | None = None,
        separable: bool = False,
    ) -> Tensor:
        """See `Recycling.take`."""
        return torch.cat([p.take(intake, crop_size, out_size, separable) for p in self.parts])


class DeferredRecycling:
    """Features that are encoded when the network first asks for them, once per training phase.

    A training step clicks several times without gradient, in eval mode, and predicts once with it:
    each of the two phases encodes once. Encoding happens inside the network's `forward`, where
    DistributedDataParallel expects everything that gets gradients.

    Args:
        encode: returns the features of the batch, one image for each roi.
        rois: (B, 4) float64, CPU: rmin, rmax, cmin, cmax, inclusive, in image pixels; they may
            reach over the border by a fraction of a pixel.
    """

    def __init__(self, encode: Callable[[], ImageFeatures], rois: Tensor):
        self.encode, self.rois = encode, rois
        self.encodings = 0
        self._phases: dict[bool, Recycling] = {}

    @property
    def batch(self) -> int:
        return len(self.rois)

    def now(self) -> Recycling:
        """The features for the phase that is running."""
        learning = torch.is_grad_enabled()
        if learning not in self._phases:
            self.encodings += 1
            features = self.encode()
            self._phases[learning] = Recycling([features], self.rois, list(range(self.batch)))
        return self._phases[learning]


def recycle(
    features: ImageFeatures | Sequence[ImageFeatures],
    rois: Tensor | Sequence[Sequence[float]],
    image_index: Sequence[int] | None = None,
) -> Recycling:
    """Place features under crops.

    Args:
        features: the encoding of one or several images, or a sequence of encodings.
        rois: (B, 4) rmin, rmax, cmin, cmax, inclusive, in pixels of each roi's image.
        image_index: (B,) the image of each roi, counted through all encodings. Default: one roi
            per image in order, or every roi on the one image there is.

    Raises:
        ValueError: wrong shapes, rois outside their image or empty.
        FeatureMismatchError: the number of images and rois do not go together.
    """
    encodings = [features] if isinstance(features, ImageFeatures) else list(features)
    if not encodings or not all(isinstance(f, ImageFeatures) for f in encodings):
        raise FeatureMismatchError(
            "features should be what model.encode_image(image) returns, or a list of that; got "
            f"{[type(f).__name__ for f in encodings] or 'an empty list'}."
        )
    rois = torch.as_tensor(rois, dtype=torch.float64).detach().cpu()
    if rois.ndim != 2 or rois.shape[1] != 4 or not len(rois):
        raise ValueError(
            "rois should have the shape (B, 4): rmin, rmax, cmin, cmax for each crop; got "
            f"{tuple(rois.shape)}. For one crop pass [[rmin, rmax, cmin, cmax]]."
        )
    sizes = [f.image_size for f in encodings for _ in range(f.batch)]
    index = _image_index(image_index, len(rois), len(sizes))
    for i, size in enumerate(sizes):
        mine = [b for b in range(len(rois)) if index[b] == i]
        if mine:
            roi.check_rois(rois[mine], size)
    placement = (tuple(map(tuple, rois.tolist())), tuple(index))
    kept = encodings[0].alignments.of(placement, encodings[1:])
    return Recycling(encodings, rois, index, kept)


def whole_images(features: ImageFeatures) -> Recycling:
    """Features under crops that are the images themselves, from edge to edge."""
    rows, cols = features.image_size
    return recycle(features, torch.tensor([[0, rows - 1, 0, cols - 1]] * features.batch))


def _image_index(given: Sequence[int] | None, num_rois: int, num_images: int) -> list[int]:
    if given is None:
        if num_images not in (1, num_rois):
            raise FeatureMismatchError(
                f"{num_rois} rois for {num_images} encoded images: pass image_index=[...] with "
                "the image of each roi."
            )
        return list(range(num_rois)) if num_images > 1 else [0] * num_rois
    index = [int(i) for i in given]
    if len(index) != num_rois or not all(0 <= i < num_images for i in index):
        raise FeatureMismatchError(
            f"image_index should name one of images 0..{num_images - 1} for each of the "
            f"{num_rois} rois; got {index}."
        )
    return index


def affinity(key: Tensor, query: Tensor) -> Tensor:
    """Pixel-pairwise affinity of the two high-level views (eq. 2 and 3).

    Args:
        key, query: (B, Ck, h, w), the views f_high1 and f_high2 aligned to the host's map.

    Returns:
        (B, hw, hw); normalised over the *first* pixel index, so that each column sums to 1.
    """
    keys = key.flatten(2).transpose(1, 2)  # (B, hw, Ck)
    return torch.softmax(keys @ query.flatten(2), dim=1)
