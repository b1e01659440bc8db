"""What a checkout needs on this machine, patch by patch.

Imports every module of the checkout that a patch is for, with the patches in place, and reports
what happened: the report tells what is, not what should be.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import io
import platform
from pathlib import Path
from typing import Any

import yaml

from fdrn_adapter import codebase
from fdrn_adapter.patches.framework import CANNOT_APPLY, NEEDED, PatchStatus

LIBRARIES = ("torch", "torchvision", "numpy", "albumentations", "opencv-python-headless",
             "opencv-python", "easydict", "pillow", "scikit-image", "scipy", "timm", "tensorboard",
             codebase.RITM_ANNOTATION)
# Without these no stock script gets past its imports. The rest serves single scripts.
REQUIRED = {"cv2": "opencv-python-headless", "easydict": "easydict", "yaml": "pyyaml",
            "albumentations": "albumentations", "scipy": "scipy", "PIL": "pillow", "tqdm": "tqdm",
            "tensorboard": "tensorboard", "torchvision": "torchvision"}
REQUIRED_BY_KIND = {"ClickSEG": {"skimage": "scikit-image"}}


def versions() -> dict[str, str]:
    """Installed versions of Python and of the libraries that the stock code meets."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def device() -> str:
    """What the stock scripts would run on."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} CUDA device(s), {torch.cuda.get_device_name(0)}"
    return f"no CUDA device: CPU, {torch.get_num_threads()} threads"


def missing_libraries(kind: str) -> list[str]:
    """PyPI names of the libraries without which the stock scripts do not start."""
    required = {**REQUIRED, **REQUIRED_BY_KIND.get(kind, {})}
    return [pip for name, pip in required.items() if importlib.util.find_spec(name) is None]


def import_targets(code_base: codebase.CodeBase) -> dict[str, str]:
    """Import every module that a patch is for; returns the failures by module name."""
    patch_set = code_base.patch_set
    names = [patch_set.local_name(t) for p in patch_set.patches for t in p.targets if "*" not in t]
    failures = {}
    for name in dict.fromkeys(names):
        if not code_base.has_module(name):
            continue
        try:
            # Some stock modules print while they are imported.
            with contextlib.redirect_stdout(io.StringIO()):
                importlib.import_module(name)
        except Exception as error:
            failures[name] = f"{type(error).__name__}: {error}"
    return failures


def config_paths(root: Path) -> list[dict[str, Any]]:
    """Entries of the checkout's config.yml that name a path, and whether it exists.

    Relative paths count from the checkout, where the stock scripts run.
    """
    file = root / "config.yml"
    if not file.is_file():
        return []

    def entries(mapping, prefix=""):
        for key, value in mapping.items():
            if isinstance(value, dict):
                yield from entries(value, f"{prefix}{key}.")
            elif isinstance(value, str):
                yield f"{prefix}{key}", value

    config = yaml.safe_load(file.read_text()) or {}
    return [{"key": key, "path": path, "exists": (root / path).exists()}
            for key, path in entries(config)]


def patch_row(status: PatchStatus, failures: dict[str, str]) -> dict[str, Any]:
    """One line of the table; a patch whose target could not be imported cannot apply."""
    state, detail = status.state, status.detail
    broken = [f"{name}: {text}" for name, text in failures.items()
              if state == NEEDED and any(t.split(".")[-1] == name.split(".")[-1]
                                         for t in status.patch.targets)]
    if broken:
        state, detail = CANNOT_APPLY, "; ".join(broken)
    return {"name": status.name, "state": state, "detail": detail,
            "targets": list(status.patch.targets), "reason": status.patch.reason,
            "since": status.patch.since}


def examine(path: str) -> dict[str, Any]:
    """The whole report as plain values.

    Raises:
        ValueError: no code base there.
        RuntimeError: another `isegm` is imported in this process.
    """
    code_base = codebase.activate(path)
    missing = missing_libraries(code_base.kind)
    failures = import_targets(code_base)
    patches = [patch_row(status, failures) for status in code_base.report]
    can_run = not failures and not missing and all(p["state"] != CANNOT_APPLY for p in patches)
    return {
        "codebase": str(code_base.root), "kind": code_base.kind, "package": code_base.package,
        "versions": versions(), "device": device(), "missing_libraries": missing,
        "import_failures": failures, "patches": patches,
        "paths": config_paths(code_base.root), "can_run": can_run,
    }
