"""Folders for results."""

import os
from pathlib import Path


def writable_folder(path: str | os.PathLike) -> Path:
    """Make a folder and see that files can be written there, before anything takes time.

    Raises:
        ValueError: it cannot be made, or not be written to.
    """
    folder = Path(path)
    probe = folder / ".fdrn_write_test"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"--out {path} cannot be written to ({error.strerror}); pass a folder of yours."
        ) from error
    return folder
