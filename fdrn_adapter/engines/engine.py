"""What an engine has to say of itself: a subclass in a file of its own, one row of the table."""

import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

Compiled = Callable[..., tuple[Tensor, ...]]
EXACT, FAST = "exact", "fast"


class EngineNotInstalledError(ValueError):
    """An engine's package, or the device it is for, is missing."""


class Engine:
    """Computes networks that are given to it as graphs: plain modules, tensors in, tensors out.

    A subclass says how a graph is compiled, and that is all: cutting a network into graphs,
    checking them against it and keeping them is done by `runner.Runner`. An engine that does all of
    it in its own way has an `own_runner`.

    Attributes:
        name: of the row, and what users call it.
        packages: that are to be installed.
        extra: of this package, that installs them: pip install 'fdrn_adapter[extra]'.
        devices: types of devices that models may be on.
        auto_on: types of devices for which "auto" may mean it.
        own_threads: whether it computes with threads of its own, beside which torch wants one.
        moves_features: whether features may be on another device than the model.
    """

    name: str = ""
    packages: tuple[str, ...] = ()
    extra: str = ""
    devices: tuple[str, ...] = ("cpu",)
    auto_on: tuple[str, ...] = ()
    own_threads: bool = False
    moves_features: bool = False

    def compile(
        self, graph: nn.Module, inputs: Sequence[Tensor], names: Sequence[str],
        outputs: Sequence[str], dynamic: dict[str, dict[int, str]] | None = None,
    ) -> Compiled:
        """A graph in this engine; what is returned may be called from several threads at once.

        Args:
            graph: a module in eval mode, float32; its parts go on being used for the graph's
                inputs, so that whoever changes their numbers does so in a copy.
            inputs: example inputs.
            names, outputs: names of inputs and outputs.
            dynamic: input -> axis -> name, for axes of any size; None where all are fixed.
        """
        raise NotImplementedError

    def own_runner(self, model: nn.Module, precision: str) -> Any | None:
        """A model with its present weights, where the engine does all of it in its own way.

        Args:
            model: FDRN model or stock network, in eval mode, on one of `devices`.
            precision: from `precision_of`.

        Returns:
            an object with the methods `click`, `refine` and `encode` of `runner.Runner`.
        """
        return None

    def precision_of(self, wanted: str | None) -> str:
        """The precision that is meant by a user's word, or by None."""
        return EXACT

    def unavailable(self) -> str:
        """Why it cannot run here, as an error says it; empty if it can."""
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if not missing:
            return ""
        remedy = f"'fdrn_adapter[{self.extra}]'" if self.extra else " ".join(missing)
        return (
            f"engine={self.name!r} needs a package that is not installed: {', '.join(missing)}. "
            f"pip install {remedy}."
        )


class Eager(Engine):
    """The network as it is, bit for bit, wherever it is and in whatever dtype."""

    name = "eager"
