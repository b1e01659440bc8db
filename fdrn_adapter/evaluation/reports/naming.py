"""Short names of runs, for tables, legends and files."""

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

PROTOCOLS = {  # in the order of a report
    "noc": "Clicks to a target IoU",
    "misleading": "Misleading clicks (5 of 20 repetitive or false)",
    "long": "Long interactions",
    "multi": "Several objects per image",
    "speed": "Time without a data set",
}

LONGEST = 180  # bytes of a name; with others and a suffix it makes a file's, of 255 at most


def labels(runs: list[dict[str, Any]]) -> list[str]:
    """A label for each run: its model, and engine and threads where the models alone would clash.

    Paths lose their folders and `sam:` pairs their suffixes as long as that keeps models apart.
    """
    models = list(dict.fromkeys(run["model"] for run in runs))
    short = {model: _short(model) for model in models}
    taken = list(short.values())
    names = {m: s if taken.count(s) == 1 else m for m, s in short.items()}
    settings: dict[str, set[str]] = {}
    for run in runs:
        settings.setdefault(run["model"], set()).add(setting(run))
    return [
        names[run["model"]] + (f" ({setting(run)})" if len(settings[run["model"]]) > 1 else "")
        for run in runs
    ]


def setting(run: dict[str, Any]) -> str:
    """Engine and threads, as far as they are recorded."""
    threads = run.get("threads")
    parts = [run.get("engine"), threads and f"{threads} thread{'s' if threads > 1 else ''}"]
    return ", ".join(part for part in parts if part)


def _short(model: str) -> str:
    kind, colon, rest = model.rpartition(":")
    paths = [PurePath(part) for part in rest.split(",")]
    return kind + colon + ",".join(p.stem if p.suffix in (".onnx", ".pth") else str(p)
                                   for p in paths)


def groups(runs: list[dict[str, Any]]) -> dict[str, list[int]]:
    """Protocol -> indices of its runs, in the order of `PROTOCOLS`, unknown ones last."""
    found = list(dict.fromkeys(run["protocol"] for run in runs))
    order = [p for p in PROTOCOLS if p in found] + [p for p in found if p not in PROTOCOLS]
    return {p: [i for i, run in enumerate(runs) if run["protocol"] == p] for p in order}


def file_name(*parts: str) -> str:
    """Parts as one file name without a suffix."""
    return "_".join(re.sub(r"[^\w.+-]+", "-", part).strip("-") for part in parts if part)


def check_names(models: Sequence[str], datasets: Sequence[str]) -> None:
    """See that names of models and data sets make file names of their own, before hours of work.

    Raises:
        ValueError: two would be the same file, or one is too long for a file system.
    """
    for kind, names in (("models", models), ("data sets", datasets)):
        files: dict[str, str] = {}
        for name in names:
            made = file_name(name)
            if len(made.encode()) > LONGEST:
                raise ValueError(
                    f"The name of one of the {kind} has {len(made.encode())} bytes, and file names "
                    f"are made of it; at most {LONGEST}: {name[:40]}... Give it a name: NAME=..."
                )
            other = files.setdefault(made.lower(), name)  # some file systems see no capitals
            if other != name:
                raise ValueError(
                    f"The {kind} {other!r} and {name!r} would be written to files of the same "
                    f"name ({made}); give one another name: NAME=..."
                )
