"""Packages whose names are imported when first used, so that `fdrn X --help` waits for no torch."""

import importlib
import sys
from collections.abc import Callable
from typing import Any


def face(
    package: str, homes: dict[str, tuple[str, ...]], modules: tuple[str, ...] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package that hands on its modules' names.

    Args:
        package: dotted name of the package.
        homes: module of the package -> names that it has.
        modules: that are handed on themselves.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{home_of[name]}"), name)
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home_of, *modules})

    return get, names, sorted([*home_of, *modules])
