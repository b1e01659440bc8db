"""What stock scripts would only tell by a traceback, told before one starts.

Both checks read the script's text: what it does not do is not asked of it.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fdrn_adapter.close_names import FILES, close_names, close_paths, did_you_mean
from fdrn_adapter.patches import options

ENDING = ".pth"
# The stock `find_checkpoint`, and where the script lets it look: RITM's in cfg, ClickSEG's in args.
_FINDS = re.compile(r"^[^#\n]*\bfind_checkpoint\((cfg|args)\.(\w+), args\.checkpoint\)", re.M)
_CONFIG = re.compile(r"[\"'](--cfg|--config-path)[\"']")
_OPENS_WINDOW = re.compile(r"^\s*(?:import|from)\s+(?:tkinter|interactive_demo)\b", re.M)


def check_display(script: Path, environment: Mapping[str, str] = os.environ) -> None:
    """See that a script which opens a window has a screen.

    Raises:
        ValueError: it has none.
    """
    has_one = environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY")
    if has_one or sys.platform != "linux" or not _OPENS_WINDOW.search(script.read_text()):
        return
    raise ValueError(
        f"{script.name} opens a window, and there is no display here (neither DISPLAY nor "
        "WAYLAND_DISPLAY is set): start it in a desktop session, over ssh -X, or under xvfb-run; "
        "`fdrn annotate` needs none, it is a page in the browser."
    )


def check_checkpoint(
    script: Path, arguments: list[str], root: Path, settings: dict[str, Any], here: Path
) -> None:
    """See that the script will find its --checkpoint, as the stock `find_checkpoint` looks for it.

    Args:
        script: that will run.
        arguments: that it will get.
        root: of the checkout, where it will run.
        settings: that override the checkout's config.
        here: where the user stands.

    Raises:
        ValueError: it will not; what looks like it is named.
    """
    name = value_of(arguments, "--checkpoint")
    found = _FINDS.search(script.read_text())
    if not name or found is None:
        return
    if found[1] == "args":
        weights, source = value_of(arguments, f"--{found[2]}") or "", f"--{found[2]}"
    else:
        weights, source = _entry(script, arguments, root, settings, found[2]), found[2]
    if weights is None:
        return
    folder = inside = root / str(weights)
    if ":" in name:
        model, _, name = name.partition(":")
        inside = _folder_of(model, folder, source)
    if not name.endswith(ENDING):
        _check_prefix(name, inside, source, here)
    elif not (root / name).exists() and not (folder / name).exists():
        below = [str(p.relative_to(folder)) for p in _checkpoints(folder)]
        close = [*close_paths(name, folder=here), *close_names(name, below, FILES)]
        raise ValueError(
            f"--checkpoint {name}: there is no such file, neither here nor in {folder} "
            f"({source}).{did_you_mean(close)} Pass the path of the file."
        )


def value_of(arguments: list[str], option: str) -> str | None:
    """What an option of a command line says, its last word counts; None where it is not given."""
    value = None
    for word, following in zip(arguments, [*arguments[1:], None], strict=False):
        if word == option:
            value = following
        elif word.startswith(f"{option}="):
            value = word.partition("=")[2]
    return value


def _entry(
    script: Path, arguments: list[str], root: Path, settings: dict[str, Any], key: str
) -> str | None:
    """An entry of the config that the script will read; None where that cannot be told."""
    option = _CONFIG.search(script.read_text())
    name = (value_of(arguments, option[1]) if option else None) or "config.yml"
    if not (root / name).is_file():
        return None
    try:
        config = yaml.safe_load((root / name).read_text())
    except yaml.YAMLError:
        return None  # the script will say so
    return options.override(config, settings).get(key) if isinstance(config, dict) else None


def _folder_of(model: str, folder: Path, source: str) -> Path:
    """The one folder whose name begins so, of MODEL:CHECKPOINT."""
    there = sorted(p for p in folder.glob("*") if p.is_dir())
    found = [p for p in there if p.name.startswith(model)]
    if len(found) == 1:
        return found[0]
    close = [p.name for p in found] or close_names(model, [p.name for p in there])
    raise ValueError(
        f"--checkpoint {model}:...: {len(found) or 'no'} folders in {folder} ({source}) have names "
        f"that begin with {model}, and the stock code wants one.{did_you_mean(close)} Or pass the "
        "path of the file."
    )


def _check_prefix(name: str, folder: Path, source: str, here: Path) -> None:
    """A name without ending: the beginning of one file's, anywhere below the folder."""
    pattern = f"{name}*{ENDING}"
    found = [] if Path(name).is_absolute() else sorted(folder.rglob(pattern))
    if len(found) == 1:
        return
    below = [str(p.relative_to(folder)) for p in found or _checkpoints(folder)]
    close = below if found else [
        *close_paths(name + ENDING, folder=here), *close_names(name + ENDING, below, FILES)
    ]
    raise ValueError(
        f"--checkpoint {name}: {len(found) or 'no'} files below {folder} ({source}) are called "
        f"{pattern}, and the stock code wants one.{did_you_mean(close)} Or pass the "
        f"path of the file, with {ENDING}."
    )


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"*{ENDING}")) if folder.is_dir() else []
