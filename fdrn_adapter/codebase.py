"""Find a RITM or FocalClick code base, put it on the path, and patch it in memory.

`activate` is the one entry: `fdrn run`, `fdrn doctor` and every `--codebase` option go through it.
"""

import importlib.machinery
import importlib.util
import logging
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from fdrn_adapter import patches
from fdrn_adapter.close_names import close_paths, did_you_mean
from fdrn_adapter.patches.framework import (
    CLICKSEG,
    FORK,
    RITM,
    RITM_ANNOTATION,
    PatchSet,
    PatchStatus,
)
from fdrn_adapter.patches.importing import PatchingFinder

logger = logging.getLogger(__name__)

PACKAGE = "isegm"
# Top-level names of a checkout that the hook watches; only modules below its root are touched.
WATCHED = (PACKAGE, "interactive_demo", "scripts", "models")


@dataclass(frozen=True)
class CodeBase:
    """A code base whose patches are in place.

    Attributes:
        root: folder that holds the package, resolved.
        package: "isegm" or "ritm_annotation".
        kind: "RITM", "ClickSEG", "ritm_annotation" or "isegm fork".
        patch_set: its patches with their outcomes so far.
    """

    root: Path
    package: str
    kind: str
    patch_set: PatchSet = field(repr=False, compare=False)

    @property
    def report(self) -> list[PatchStatus]:
        """State of every patch at this moment."""
        return self.patch_set.statuses()

    def has_module(self, name: str) -> bool:
        """Whether the code base has a module of that dotted name; nothing is imported."""
        return has_module(self.root, name)


_active: dict[str, tuple[CodeBase, PatchingFinder]] = {}


def has_module(root: Path, name: str) -> bool:
    """Whether a folder holds the source of the module with that dotted name."""
    path = root.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def kind_of(root: Path) -> str:
    """Name the code base in a folder by the files that only it has."""
    if has_module(root, f"{PACKAGE}.inference.predictors.focalclick"):
        return CLICKSEG
    if has_module(root, f"{PACKAGE}.model.is_hrnet_model") and has_module(
        root, "interactive_demo.controller"
    ):
        own = {path.stem for path in (root / PACKAGE / "model").glob("is_*_model.py")}
        return RITM if own <= {"is_hrnet_model", "is_deeplab_model"} else FORK
    return FORK


def locate(path: str | os.PathLike) -> Path:
    """Resolve and validate the folder of a checkout.

    Raises:
        ValueError: the folder does not exist or holds no package `isegm`.
    """
    root = Path(path).expanduser().resolve()
    if not root.is_dir():
        close = did_you_mean(close_paths(path, _is_checkout))
        raise ValueError(
            f"{path} is not a folder.{close} Pass the root of a RITM or FocalClick checkout, the "
            f"folder that holds {PACKAGE}/."
        )
    if root.name == PACKAGE and (root / "model").is_dir():
        raise ValueError(f"{path} is the package itself; pass the folder above: {root.parent}")
    if not _is_checkout(root):
        around = [root.parent, *sorted(p.parents[1] for p in root.glob(f"*/{PACKAGE}/model"))]
        meant = did_you_mean([str(p) for p in around if _is_checkout(p)])
        raise ValueError(
            f"{root} holds no {PACKAGE}/model.{meant} Pass the root of a RITM or FocalClick "
            f"checkout, the folder that holds {PACKAGE}/."
        )
    return root


def check(path: str | os.PathLike) -> None:
    """See that `activate` would find a code base there; nothing is imported or changed.

    Raises:
        ValueError: there is none.
    """
    if os.fspath(path) == RITM_ANNOTATION:
        locate_ritm_annotation()
    else:
        locate(path)


def _is_checkout(folder: Path) -> bool:
    return os.path.isdir(folder / PACKAGE / "model")


def activate(path: str | os.PathLike) -> CodeBase:
    """Put a code base first on sys.path and install its patches; works on this process.

    A second call with the same code base changes nothing and returns the same object. Nothing of
    the code base is imported; modules that were imported before are patched now, as far as a
    loaded module can be.

    Args:
        path: root of a checkout, or "ritm_annotation" for the installed package.

    Raises:
        ValueError: no code base there.
        RuntimeError: another `isegm` is in use in this process.
    """
    if os.fspath(path) == RITM_ANNOTATION:
        root, package, kind = locate_ritm_annotation(), RITM_ANNOTATION, RITM_ANNOTATION
    else:
        root = locate(path)
        package, kind = PACKAGE, kind_of(root)
    if package in _active and _active[package][0].root == root:
        return _active[package][0]
    refuse_other(root, package)

    patch_set = PatchSet(package, kind, patches.all_patches(), lambda name: has_module(root, name))
    code_base = CodeBase(root, package, kind, patch_set)
    watched = WATCHED if package == PACKAGE else (package,)
    finder = PatchingFinder(root, watched, patch_set)
    if package == PACKAGE:
        sys.path[:] = [str(root)] + [p for p in sys.path if p != str(root)]
    finder.install()
    patch_set.apply_to_loaded()
    _active[package] = (code_base, finder)
    logger.info("%s at %s, %d patches", kind, root, len(patch_set.patches))
    return code_base


def activate_installed() -> None:
    """`activate` for ritm_annotation, where it is installed: checkpoints name its networks too."""
    if importlib.util.find_spec(RITM_ANNOTATION) is not None:
        activate(RITM_ANNOTATION)


def deactivate(code_base: CodeBase) -> None:
    """Undo `activate`: no hook, no path entry, no loaded module of the code base.

    Objects that were made from its classes live on; only new imports see the difference.
    """
    active = _active.pop(code_base.package, None)
    if active is None:
        return
    active[1].remove()
    if code_base.package == PACKAGE:  # the other's root is site-packages, with everything in it
        sys.path[:] = [p for p in sys.path if p != str(code_base.root)]
    # All first, then out with them: the path of a namespace package asks its parent module.
    doomed = [
        name for name, module in list(sys.modules.items())
        if name.partition(".")[0] in active[1].packages
        and any(p.is_relative_to(code_base.root) for p in places_of(module))
    ]
    for name in doomed:
        del sys.modules[name]


def places_of(module: object) -> list[Path]:
    """Files and folders a module was loaded from; namespace packages have folders only."""
    spec = getattr(module, "__spec__", None)
    places = [getattr(module, "__file__", None),
              *(getattr(spec, "submodule_search_locations", None) or [])]
    return [Path(place).resolve() for place in places if place]


def locate_ritm_annotation() -> Path:
    """Folder that holds the installed package.

    Raises:
        ValueError: it is not installed.
    """
    spec = importlib.util.find_spec(RITM_ANNOTATION)
    if spec is None or spec.origin is None:
        raise ValueError(
            "ritm_annotation is not installed: pip install 'fdrn_adapter[ritm]' (wheels for x86-64 "
            "Linux only), or pass the folder of a RITM checkout."
        )
    return Path(spec.origin).resolve().parent.parent


def refuse_other(root: Path, package: str) -> None:
    """Raise if a package of this name from elsewhere is already imported or active.

    Raises:
        RuntimeError: two code bases of one name cannot live in one process.
    """
    remedy = f"Start another process for the other code base: both call their package {package}."
    if package in _active:
        raise RuntimeError(f"{_active[package][0].root} is active, got {root}. {remedy}")
    module = sys.modules.get(package)
    if module is None:
        return
    places = places_of(module)
    if not any(place.is_relative_to(root) for place in places):
        found = places[0] if places else "an unknown place"
        raise RuntimeError(f"{package} is imported from {found} already, got {root}. {remedy}")
