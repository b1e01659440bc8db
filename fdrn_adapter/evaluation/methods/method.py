"""What a method under test is, and what a kind of methods says of itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import nn

from fdrn_adapter.engines.engine import EXACT
from fdrn_adapter.evaluation.methods.modes import DEFAULT_MODE

UNTRAINED = "untrained: random weights"


class Segmenter(Protocol):
    """A method of interactive segmentation.

    Attributes:
        name: as the user called it on the command line; unique in a run.
    """

    name: str

    def set_image(self, image: np.ndarray) -> None:
        """Take an image, (H, W, 3) uint8 RGB, do the work of once per image, start an object."""

    def start_object(self) -> None:
        """Forget the clicks; the work of once per image stays."""

    def add_click(self, x: int, y: int, positive: bool) -> np.ndarray:
        """Click at column x, row y of the image; returns the probability (H, W) float32."""


@dataclass(frozen=True)
class ModelSpec:
    """A model of a run.

    Attributes:
        name: for tables.
        kind: name of its row in `catalogue.METHODS`.
        source: what stands behind "KIND:", empty for a method without; of a network, all of it.
        text: what stands on the command line for it, without a name.
    """

    name: str
    kind: str
    source: str
    text: str


@dataclass(frozen=True)
class Options:
    """How networks are run; see `NetworkSegmenter`.

    Attributes:
        codebase: folder of a checkout for networks of `isegm`, None for what is installed.
        device: of the networks.
        stock_engine: of stock networks, None for that of FDRNs.
        seed: of the weights of untrained networks.
        threads: of SAM's sessions, None for the library's choice.
        precision: of engines, "exact" or "fast".
    """

    engine: str = "auto"
    eval_mode: str = DEFAULT_MODE
    flip: bool = False
    threads: int | None = None
    seed: int = 0
    codebase: str | None = None
    device: str = "cpu"
    stock_engine: str | None = None
    precision: str = EXACT

    def engine_of(self, is_fdrn: bool) -> str:
        return self.engine if is_fdrn else self.stock_engine or self.engine


@dataclass(frozen=True)
class Built:
    """A segmenter with what is to be said about it.

    Attributes:
        model: the network, None for other methods.
        trained: False for random weights, None where there is nothing to train.
        crop_size: rows and columns of the network's crops as the zoo has them, None elsewhere.
        engine: that runs a network, None for methods without one.
        takes_crops: whether a forward pass of `model` on a crop is what a click costs.
    """

    spec: ModelSpec
    segmenter: Segmenter
    model: nn.Module | None = None
    trained: bool | None = None
    crop_size: tuple[int, int] | None = None
    engine: str | None = None
    takes_crops: bool = False

    @property
    def notes(self) -> list[str]:
        return [UNTRAINED] if self.trained is False else []


class Method:
    """A kind of methods: a subclass in a file of its own, and one object in `catalogue.METHODS`.

    Attributes:
        name: on the command line, "NAME" where the method takes nothing, else "NAME:SOURCE".
        help: how it is written, for messages.
        takes_source: whether something stands behind the name.
        further: what each further comma-separated part of the source ends with.
    """

    name: str = ""
    help: str = ""
    takes_source: bool = False
    further: tuple[str, ...] = ()

    def accepts(self, text: str) -> bool:
        """Whether a text of the command line is for this kind."""
        return text.startswith(f"{self.name}:") if self.takes_source else text == self.name

    def source_of(self, text: str) -> str:
        """What stands behind the name."""
        return text.removeprefix(self.name).removeprefix(":")

    def title(self, source: str) -> str:
        """The model's name in tables where the user gives none."""
        return f"{self.name}:{Path(source).name}" if self.takes_source else self.name

    def check(self, spec: ModelSpec) -> None:
        """See, before anything is built, that what a model is made of exists.

        Raises:
            ValueError: it does not.
        """

    def build(self, spec: ModelSpec, options: Options) -> Built:
        """Make the segmenter of a spec, which was checked.

        Raises:
            ValueError: it cannot be built with these options; names the model.
        """
        raise NotImplementedError
