"""The import hook: stock modules of one folder are loaded with their patches.

The hook also keeps Python from writing `__pycache__` into somebody else's checkout.
"""

import importlib.machinery
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from fdrn_adapter.patches.framework import PatchSet


class PatchingLoader(importlib.machinery.SourceFileLoader):
    """Loads a stock module through its patch set and caches no bytecode."""

    def __init__(self, fullname: str, path: str, patch_set: PatchSet):
        super().__init__(fullname, path)
        self._patch_set = patch_set

    def set_data(self, path, data, *, _mode=0o666) -> None:
        """Write nothing: the checkout belongs to the user."""

    def exec_module(self, module: ModuleType) -> None:
        self._patch_set.execute(module, super().exec_module)


class PatchingFinder:
    """Meta path finder for the modules under `root`; leaves every other import alone.

    Args:
        root: folder that holds the packages.
        packages: top-level names to watch.
        patch_set: what to apply.
    """

    def __init__(self, root: Path, packages: Sequence[str], patch_set: PatchSet):
        self.root = root
        self.packages = tuple(packages)
        self._patch_set = patch_set

    def find_spec(self, fullname: str, path=None, target=None):
        if fullname.partition(".")[0] not in self.packages:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or type(spec.loader) is not importlib.machinery.SourceFileLoader:
            return None
        if not Path(spec.origin).resolve().is_relative_to(self.root):
            return None
        spec.loader = PatchingLoader(fullname, spec.origin, self._patch_set)
        return spec

    def install(self) -> None:
        """Put the hook in front of the others; a second call changes nothing."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def remove(self) -> None:
        """Take the hook out again; modules that were loaded stay as they are."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
