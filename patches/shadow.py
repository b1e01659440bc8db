"""Tools for narrow patches: change what one stock module sees, not what everybody sees."""

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from fdrn_adapter.patches.framework import CannotApply


class NamespaceView(ModuleType):
    """A module seen through a few replaced or added names; everything else is the original."""

    def __init__(self, wrapped: ModuleType, names: dict[str, Any]):
        super().__init__(wrapped.__name__, wrapped.__doc__)
        vars(self).update(names)
        vars(self)["_wrapped"] = wrapped

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_wrapped"], name)


def shadow(module: ModuleType, alias: str, **names: Any) -> None:
    """Replace the module that `module` calls `alias` by a view of it with other names.

    Raises:
        CannotApply: the module has no such alias.
    """
    wrapped = vars(module).get(alias)
    if not isinstance(wrapped, ModuleType):
        raise CannotApply(f"{module.__name__} has no module called {alias}")
    setattr(module, alias, NamespaceView(wrapped, names))


def stand_in(name: str, **names: Any) -> ModuleType:
    """A module object with the given names, for `modules_in_place`."""
    module = ModuleType(name, "Stand-in made by fdrn_adapter.patches for one import statement.")
    vars(module).update(names)
    module.__path__ = []  # so that `import a.b` accepts it as a package
    return module


@contextlib.contextmanager
def modules_in_place(*modules: ModuleType) -> Iterator[None]:
    """Put stand-ins into sys.modules while a stock module body runs, then take them out."""
    missing = object()
    before = {m.__name__: sys.modules.get(m.__name__, missing) for m in modules}
    sys.modules.update({m.__name__: m for m in modules})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is missing:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module


@contextlib.contextmanager
def attribute_in_place(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute while a stock module body runs, then restore it."""
    missing = object()
    before = vars(owner).get(name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def require(module: ModuleType, *names: str) -> Any:
    """The named attribute of a module (`require(m, "Class", "method")` for one of a class).

    Raises:
        CannotApply: it is not there; the message names it.
    """
    value: Any = module
    for i, name in enumerate(names):
        if not hasattr(value, name):
            raise CannotApply(f"{module.__name__} has no {'.'.join(names[: i + 1])}")
        value = getattr(value, name)
    return value
