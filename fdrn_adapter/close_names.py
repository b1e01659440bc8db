"""What looks like a name that is not there, for messages."""

import difflib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

FILES = 0.7  # a cutoff: files share their ending, which alone makes them look alike


def close_names(name: str, known: Iterable[str], cutoff: float = 0.5) -> list[str]:
    """At most three of the known names, the closest first; capitals do not count."""
    by_lower = {word.lower(): word for word in known}
    return [by_lower[n] for n in difflib.get_close_matches(name.lower(), by_lower, 3, cutoff)]


def close_paths(
    path: str | Path, fits: Callable[[Path], bool] = os.path.isfile, folder: Path | None = None
) -> list[str]:
    """What lies in the folder of a path under a close name, written like the path.

    Args:
        path: that is not there.
        fits: whether something there is of the kind that was meant.
        folder: where a relative path starts; None for the current one.
    """
    given = Path(path).expanduser()
    where = (folder or Path()) / given.parent
    try:
        there = [name for name in sorted(os.listdir(where)) if fits(where / name)]
    except OSError:  # no folder, or not to be read
        return []
    return [str(given.with_name(name)) for name in close_names(given.name, there, FILES)]


def did_you_mean(close: Iterable[str]) -> str:
    """A question that follows a sentence, of three at most; nothing where nothing is close."""
    said = " or ".join(map(repr, list(dict.fromkeys(close))[:3]))
    return f" Did you mean {said}?" if said else ""
