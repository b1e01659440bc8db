"""What every backbone of the image encoder says of the maps it is read at."""

from dataclasses import dataclass

from fdrn_adapter.features.roi import Grid


@dataclass(frozen=True)
class Tap:
    """A place where features are read.

    Attributes:
        path: module path inside the backbone.
        channels: of the map.
        grid: stride and offset of its cells on the encoder's input.
    """

    path: str
    channels: int
    grid: Grid
