"""Image features: encoded once, recycled over clicks, objects and undo steps."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fdrn_adapter import integration, roi
from fdrn_adapter.errors import CheckpointError, FeatureMismatchError
from fdrn_adapter.roi import Grid, Placement

_FORMAT = "fdrn_adapter.ImageFeatures/1"
# Rois whose alignment is kept per image: the crop in use, the one before (undo) and their mirrors.
_KEPT_ALIGNMENTS = 4


@dataclass(eq=False)
class ImageFeatures:
    """What `encode_image` returns: the features of B images of one size.

    Attributes:
        maps: "low" (B, C, h4, w4), the two views "key" and "query" (B, 128, h16, w16), and
            "context", a third one (`wrap(context_channels=...)`); maps that the model does not use
            are left out.
        grids: stride and offset of each map's cells on the encoder's input.
        image_size: rows and columns of the images.
        input_size: rows and columns of what the encoder saw (smaller for images beyond its cap).
        architecture: encoder and taps the features come from.
        weights: fingerprint of the encoder's weights, empty while training.
    """

    maps: dict[str, Tensor]
    grids: dict[str, Grid]
    image_size: tuple[int, int]
    input_size: tuple[int, int]
    architecture: str
    weights: str = ""
    batch: int = 0
    _alignments: "_Alignments" = field(default_factory=lambda: _Alignments(), repr=False)

    def __post_init__(self) -> None:
        if self.maps:
            self.batch = next(iter(self.maps.values())).shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes held by the maps (alignments of recent rois not included)."""
        return sum(m.numel() * m.element_size() for m in self.maps.values())

    def to(self, *args, **kwargs) -> "ImageFeatures":
        """A copy on another device or of another floating-point dtype, as `Tensor.to`."""
        return self._with({name: m.to(*args, **kwargs) for name, m in self.maps.items()})

    def detach(self) -> "ImageFeatures":
        """A copy that no gradient flows through."""
        return self._with({name: m.detach() for name, m in self.maps.items()})

    def __getitem__(self, index: int) -> "ImageFeatures":
        """The features of one image of the batch, as a batch of one."""
        if not 0 <= index < self.batch:
            raise IndexError(f"image {index} of a batch of {self.batch}: 0..{self.batch - 1}")
        part = self._with({name: m[index : index + 1] for name, m in self.maps.items()})
        part.batch = 1
        return part

    def _with(self, maps: dict[str, Tensor]) -> "ImageFeatures":
        return ImageFeatures(
            maps, self.grids, self.image_size, self.input_size, self.architecture, self.weights,
            self.batch,
        )

    def save(self, path: str | Path) -> None:
        """Write the features to a file that `ImageFeatures.load` reads."""
        torch.save(
            {
                "format": _FORMAT,
                "maps": {name: m.detach().cpu() for name, m in self.maps.items()},
                "grids": {n: (g.stride, tuple(g.offset_rc)) for n, g in self.grids.items()},
                "image_size": tuple(self.image_size),
                "input_size": tuple(self.input_size),
                "architecture": self.architecture,
                "weights": self.weights,
                "batch": self.batch,
            },
            path,
        )

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> "ImageFeatures":
        """Read features written by `save`; no code in the file is run.

        Raises:
            CheckpointError: the file is not one.
        """
        from fdrn_adapter.checkpoint import read_file

        stored = read_file(path, device)
        if not isinstance(stored, dict) or stored.pop("format", None) != _FORMAT:
            raise CheckpointError(
                f"{path} does not hold image features; write them with ImageFeatures.save."
            )
        stored["grids"] = {name: Grid(*grid) for name, grid in stored["grids"].items()}
        return cls(**stored)


class Recycling:
    """Image features placed under a batch of crops; aligns them on demand and remembers it.

    Built by `recycle`. Aligned maps and affinities depend on the rois, the crop size and the size
    of the host's maps only, so they are kept while these stay; nothing is kept that gradients flow
    through.

    Args:
        features: one or several encodings.
        rois: (B, 4) float64, CPU: rmin, rmax, cmin, cmax, inclusive, in image pixels.
        image_index: for each roi, the number of its image, counted through all encodings.
    """

    def __init__(self, features: Sequence[ImageFeatures], rois: Tensor, image_index: list[int]):
        self.features, self.rois = tuple(features), rois
        owners = [(f, i) for f in self.features for i in range(f.batch)]
        self.owners = [owners[i] for i in image_index]
        self._keeps = not any(m.requires_grad for f in self.features for m in f.maps.values())
        self._kept: dict[tuple, Any] = {}
        self._lock = threading.Lock()

    @property
    def batch(self) -> int:
        return len(self.owners)

    def low(
        self, crop_size: tuple[int, int], host: Grid, out_size: tuple[int, int],
        separable: bool = False,
    ) -> Tensor:
        """f_low on the host's cells, followed by the context if there is one: (B, C, *out_size).

        Args:
            crop_size, host, out_size: of the crop, and of the host's map on it.
            separable: by `roi.align_separable`, which is faster and rounds in another way.
        """
        names = ["low"]
        if all("context" in features.maps for features in self.features):
            names.append("context")
        where = (crop_size, host, out_size, separable)

        def compute() -> Tensor:
            maps = [self._align(name, *where) for name in names]
            return torch.cat(maps, dim=1) if len(maps) > 1 else maps[0]

        return self._keep(("low", *where), compute)

    def affinity(
        self, crop_size: tuple[int, int], host: Grid, out_size: tuple[int, int],
        separable: bool = False,
    ) -> Tensor:
        """A of eq. 3 between the host's cells: (B, hw, hw). Arguments as of `low`."""
        where = (crop_size, host, out_size, separable)
        return self._keep(
            ("affinity", *where),
            lambda: integration.affinity(self._align("key", *where), self._align("query", *where)),
        )

    def _keep(self, key: tuple, compute) -> Any:
        with self._lock:
            kept = self._kept.get(key)
        if kept is None:
            kept = compute()
            if self._keeps:
                with self._lock:
                    self._kept[key] = kept
        return kept

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


class _Alignments:
    """The last few Recyclings of an encoding, so that an unchanged roi is aligned once.

    Copies and pickles of features start empty: alignments are cheap to redo and large to carry.
    """

    def __init__(self) -> None:
        self._items: OrderedDict[tuple, Recycling] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple, build) -> Recycling:
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                return self._items[key]
        made = build()
        with self._lock:
            self._items[key] = made
            while len(self._items) > _KEPT_ALIGNMENTS:
                self._items.popitem(last=False)
        return made

    def __deepcopy__(self, memo: dict) -> "_Alignments":
        return _Alignments()

    def __reduce__(self) -> tuple:
        return (_Alignments, ())


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
    owner = encodings[0]
    key = (tuple(map(id, encodings)), tuple(map(tuple, rois.tolist())), tuple(index))
    return owner._alignments.get(key, lambda: Recycling(encodings, rois, index))


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
