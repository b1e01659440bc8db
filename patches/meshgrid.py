"""torch.meshgrid without `indexing` in the distance maps."""

import functools
import warnings
from types import ModuleType

import torch
from fdrn_adapter.patches.framework import EVERYWHERE, Patch
from fdrn_adapter.patches.shadow import require, shadow


class Meshgrid(Patch):
    name = "meshgrid"
    targets = ("isegm.model.ops",)
    code_bases = EVERYWHERE
    reason = "torch.meshgrid without indexing= warns and will change its meaning"
    since = "torch 1.10"

    def needed(self) -> tuple[bool, str]:
        once = not torch.is_warn_always_enabled()
        torch.set_warn_always(True)  # torch would warn only the first caller in the process
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                rows, _ = torch.meshgrid(torch.arange(2), torch.arange(3))
        finally:
            torch.set_warn_always(not once)
        if tuple(rows.shape) != (2, 3):
            return True, f"torch {torch.__version__} returns the grid in the other order"
        if any("indexing" in str(w.message) for w in caught):
            return True, f"torch {torch.__version__} warns about it"
        return False, f"torch {torch.__version__} still takes it without a word"

    def apply(self, module: ModuleType) -> str | None:
        require(module, "DistMaps")
        shadow(module, "torch", meshgrid=functools.partial(torch.meshgrid, indexing="ij"))
        return None


PATCHES = (Meshgrid(),)
