"""np.int, np.float, np.bool and friends in stock modules, numpy itself untouched.

The names are added to what a module of the code base calls `np`, and only the names that the
installed NumPy lacks and that the module's code mentions. Other libraries keep seeing NumPy as
it is: code that asks `hasattr(np, "int")` still gets the truth.
"""

import builtins
import functools
import warnings
from types import CodeType, ModuleType

import numpy as np
from fdrn_adapter.patches.framework import EVERYWHERE, Patch
from fdrn_adapter.patches.shadow import shadow

# Each was an alias of the builtin of that name.
ALIASES = ("int", "float", "bool", "object", "str", "complex")


@functools.lru_cache(maxsize=1)
def missing_aliases() -> dict[str, type]:
    """The aliases that the installed NumPy does not have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns about some of them before it refuses
        return {name: getattr(builtins, name) for name in ALIASES if not hasattr(np, name)}


def mentioned_names(code: CodeType) -> set[str]:
    """Global and attribute names in a code object and everything defined inside it."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= mentioned_names(constant)
    return names


class NumpyAliases(Patch):
    name = "numpy_aliases"
    targets = ("isegm.*",)
    code_bases = EVERYWHERE
    reason = "stock modules use np.int, np.float and np.bool, e.g. while building an HRNet"
    since = "NumPy 1.24 removed them (NumPy 2.0 brought np.bool back)"

    def needed(self) -> tuple[bool, str]:
        missing = missing_aliases()
        if missing:
            return True, f"NumPy {np.__version__} has no " + ", ".join(f"np.{n}" for n in missing)
        return False, f"NumPy {np.__version__} has them all"

    def apply(self, module: ModuleType) -> str | None:
        code = self._code(module)
        mentioned = mentioned_names(code) if code is not None else set(ALIASES)
        names = {k: v for k, v in missing_aliases().items() if k in mentioned}
        aliases = [a for a in ("np", "numpy") if isinstance(vars(module).get(a), ModuleType)]
        for alias in aliases if names else ():
            if alias in mentioned:
                shadow(module, alias, **names)
        return None

    @staticmethod
    def _code(module: ModuleType) -> CodeType | None:
        loader = getattr(module.__spec__, "loader", None)
        return loader.get_code(module.__name__) if hasattr(loader, "get_code") else None


PATCHES = (NumpyAliases(),)
