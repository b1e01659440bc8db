"""What the places of a host take of the image's features: said once, for eager, engines, export."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from fdrn_adapter.features.roi import Grid, cells
from fdrn_adapter.weights import Weights


def joined(*maps: Tensor) -> Tensor:
    """Maps (B, C_i, h, w) side by side, (B, sum of C_i, h, w)."""
    return torch.cat(maps, dim=1) if len(maps) > 1 else maps[0]


@dataclass(frozen=True, eq=False)
class Intake:
    """What one place of the host takes: some maps, aligned to its cells and made into one tensor.

    Another place, or another kind of feature, is another Intake: caches, engines and export ask
    it and know no names of maps.

    Attributes:
        name: of the result, one for each place of a model; engines call their inputs by it.
        maps: names of the maps in `ImageFeatures.maps`.
        grid: cells of the host's map on the crop that its first convolution sees.
        combine: takes the aligned maps in this order, each (B, C_i, h, w). A module is something
            that learns: what it gave is kept only while its weights stay.
    """

    name: str
    maps: tuple[str, ...]
    grid: Grid
    combine: Callable[..., Tensor] = joined

    @property
    def key(self) -> tuple:
        """The same for intakes that make the same of the same features."""
        return (self.maps, self.combine)

    @property
    def learns(self) -> bool:
        """Whether `combine` has weights of its own."""
        return isinstance(self.combine, nn.Module)

    def stamp(self) -> Any:
        """Another one after the weights of `combine` changed."""
        return self._weights.state() if self.learns else None

    @cached_property
    def _weights(self) -> Weights:
        return Weights(self.combine.modules())

    def cells(self, crop_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the host's map on a crop of this size."""
        return tuple(cells(side, self.grid.stride) for side in crop_size)

    def __deepcopy__(self, memo: dict) -> "Intake":
        # Weights watch the modules of this one.
        return Intake(self.name, self.maps, self.grid, copy.deepcopy(self.combine, memo))


@dataclass(frozen=True)
class Aligned:
    """What the injections of a running model take.

    Attributes:
        tensors: by the intake's name.
        source: what they were made of, where the model itself aligned them.
    """

    tensors: Mapping[str, Tensor]
    source: Any = None
