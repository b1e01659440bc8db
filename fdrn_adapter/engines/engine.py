"""A row of the table of engines: what an engine has to say of itself. No torch is imported here."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

EXACT, FAST = "exact", "fast"
PRECISION_VARIABLE = "FDRN_PRECISION"
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
        lower: () -> the precision below float32 that this processor is fast at in it, by its name;
            empty where there is none.
        compile_lower: as `compile`, in that precision; inputs and outputs stay float32.
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
    lower: Callable[[], str] | str = ""
    compile_lower: Callable[..., Compiled] | str = ""

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

    def lower_precision(self) -> str:
        """What `lower` says; empty for engines that know no other precision than float32."""
        return _function(self.lower)() if self.lower else ""

    def lower_compiler(self) -> Callable[..., Compiled]:
        """`compile_lower` itself."""
        return _function(self.compile_lower)


def precision_of(wanted: str | None) -> str:
    """The precision that is meant; None for what FDRN_PRECISION says, else "exact".

    Raises:
        ValueError: no such precision.
    """
    wanted = wanted or os.environ.get(PRECISION_VARIABLE) or EXACT
    if wanted not in (EXACT, FAST):
        raise ValueError(f"Unknown precision {wanted!r}; allowed: {EXACT}, {FAST}.")
    return wanted


def _function(given: Callable | str) -> Callable:
    if callable(given):
        return given
    module, _, name = given.partition(":")
    return getattr(importlib.import_module(module), name)
