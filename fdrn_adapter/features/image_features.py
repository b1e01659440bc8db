"""Image features: what `encode_image` returns, kept over clicks, objects and undo steps."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fdrn_adapter import schemas
from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.features.kept import Alignments
from fdrn_adapter.features.roi import Grid
from fdrn_adapter.weight_files import read_file

_FORMAT = "fdrn_adapter.ImageFeatures/1"


@dataclass(eq=False)
class ImageFeatures:
    """What `encode_image` returns: the features of B images of one size.

    Attributes:
        maps: "low" (B, C, h4, w4), the two views "key" and "query" (B, 128, h16, w16), and
            "context", a third one (`wrap(context_channels=...)`); maps that the model does not use
            are left out. Or "embedding" (B, C, h, w) alone, of which the model's intakes make
            views once it is aligned.
        grids: stride and offset of each map's cells on the encoder's input.
        image_size: rows and columns of the images.
        input_size: rows and columns of what the encoder saw (smaller for images beyond its cap).
        architecture: encoder and taps the features come from.
        weights: fingerprint of the encoder's weights, empty while training.
        batch: number of images.
        alignments: what was computed for recent rois.
    """

    maps: dict[str, Tensor]
    grids: dict[str, Grid]
    image_size: tuple[int, int]
    input_size: tuple[int, int]
    architecture: str
    weights: str = ""
    batch: int = 0
    alignments: Alignments = field(default_factory=Alignments, repr=False)

    def __post_init__(self) -> None:
        if self.maps:
            self.batch = next(iter(self.maps.values())).shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes held by the maps (alignments of recent rois not included)."""
        return sum(m.numel() * m.element_size() for m in self.maps.values())

    def to(self, *args: Any, **kwargs: Any) -> "ImageFeatures":
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
        stored = read_file(path, device)
        if not isinstance(stored, dict) or stored.pop("format", None) != _FORMAT:
            raise CheckpointError(
                f"{path} does not hold image features; write them with ImageFeatures.save."
            )
        schemas.require(stored, str(path), _SCHEMA)
        _check_together(stored, path)
        stored["grids"] = {name: Grid(*grid) for name, grid in stored["grids"].items()}
        return cls(**stored)


def _grids(value: Any) -> None:
    """Names with (stride, (row, column))."""
    def number(n: Any, least: float) -> bool:
        return isinstance(n, int | float) and not isinstance(n, bool) and least <= n < 1e4

    for grid in value.values() if isinstance(value, dict) else [None]:
        if not isinstance(grid, tuple | list) or len(grid) != 2 or not number(grid[0], 1):
            raise schemas.Unfit("names with a stride and an offset")
        offset = grid[1]
        if not isinstance(offset, tuple | list) or len(offset) != 2 \
                or not all(number(n, -1e4) for n in offset):
            raise schemas.Unfit("names with a stride and an offset")


_SCHEMA = {
    "maps": schemas.tensors, "grids": _grids, "image_size": schemas.size,
    "input_size": schemas.size, "architecture": schemas.text, "weights": schemas.text,
    "batch": schemas.whole(1, 2**20),
}
_PADDING = 64  # pixels that an encoder may add at the bottom and right of its input


def _check_together(stored: dict[str, Any], path: str | Path) -> None:
    """See that maps, grids and sizes are of one encoding."""
    maps, grids, (rows, cols) = stored["maps"], stored["grids"], stored["input_size"]
    if maps.keys() != grids.keys():
        raise CheckpointError(f"{path}: maps {[*maps]} and grids {[*grids]} should be the same.")
    for name, features in maps.items():
        stride = grids[name][0]
        fits = features.ndim == 4 and features.is_floating_point() and all(
            0 <= cells * stride - side + stride - 1 <= _PADDING + stride
            for cells, side in zip(features.shape[2:], (rows, cols), strict=True)
        )
        if not fits or len(features) != stored["batch"]:
            raise CheckpointError(
                f"{path}: the map {name!r} is {schemas.described(features)}; of {stored['batch']} "
                f"image(s) of {rows} x {cols} at stride {stride:g} it should be "
                f"({stored['batch']}, channels, {-(-rows // stride):g}, {-(-cols // stride):g})."
            )
