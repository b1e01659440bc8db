"""A row of the table of engines: what an engine has to say of itself. No torch is imported here."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EXACT, FAST = "exact", "fast"
# Tensors in, tensors out; may be called from several threads at once.
Compiled = Callable[..., tuple]


class EngineNotInstalledError(ValueError):
    """An engine's package, or the device it is for, is missing."""


@dataclass(frozen=True)
class Engine:
    """Computes networks that are given to it as graphs: plain modules, tensors in, tensors out.

    Cutting a network into graphs, checking what was compiled against it and keeping that is done
    for every engine by `runner.Runner`. Functions are given themselves, or as "module:name" to be
    imported when they are first needed.

    Attributes:
        name: of the row, and what users call it.
        compile: (graph, inputs, names, outputs, dynamic) -> Compiled. `graph` is a module in eval
            mode in float32, whose parts go on being used for its inputs, so that whoever changes
            their numbers does so in a copy; `inputs` are example tensors; `names` and `outputs`
            their names and those of what it returns; `dynamic` is None, or input -> axis -> name
            for axes of any size.
        packages: that are to be installed.
        extra: of this package, that installs them: pip install 'fdrn_adapter[extra]'.
        devices: types of devices that models may be on.
        auto_on: types of devices for which "auto" may mean it.
        own_threads: whether it computes with threads of its own, beside which torch wants one.
        moves_features: whether features may be on another device than the model.
        runner: (model, precision) -> an object with the methods of `runner.Runner`, for an engine
            that does all of it in its own way and compiles no graphs.
        missing: () -> why it cannot run here for another reason than packages, empty if it can.
        precision: (a user's word or None) -> the precision that is meant.
    """

    name: str
    compile: Callable[..., Compiled] | str = ""
    packages: tuple[str, ...] = ()
    extra: str = ""
    devices: tuple[str, ...] = ("cpu",)
    auto_on: tuple[str, ...] = ()
    own_threads: bool = False
    moves_features: bool = False
    runner: Callable[[Any, str], Any] | str = ""
    missing: Callable[[], str] | str = ""
    precision: Callable[[str | None], str] | str = ""

    def unavailable(self) -> str:
        """Why it cannot run here, as an error says it; empty if it can."""
        absent = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if absent:
            remedy = f"'fdrn_adapter[{self.extra}]'" if self.extra else " ".join(absent)
            return (
                f"engine={self.name!r} needs a package that is not installed: "
                f"{', '.join(absent)}. pip install {remedy}."
            )
        return _function(self.missing)() if self.missing else ""

    def compiler(self) -> Callable[..., Compiled]:
        """`compile` itself."""
        return _function(self.compile)

    def own_runner(self, model: Any, precision: str) -> Any | None:
        """What `runner` makes; None for engines that compile graphs."""
        return _function(self.runner)(model, precision) if self.runner else None

    def precision_of(self, wanted: str | None) -> str:
        """The precision that is meant by a user's word, or by None."""
        return _function(self.precision)(wanted) if self.precision else EXACT


def _function(given: Callable | str) -> Callable:
    if callable(given):
        return given
    module, _, name = given.partition(":")
    return getattr(importlib.import_module(module), name)
