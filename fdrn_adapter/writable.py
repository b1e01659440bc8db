"""Folders and files for results."""

import contextlib
import os
from pathlib import Path


def writable_folder(path: str | os.PathLike) -> Path:
    """Make a folder and see that files can be written there, before anything takes time.

    Raises:
        ValueError: it cannot be made, or not be written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_in(folder)
    except OSError as error:
        raise ValueError(
            f"--out {path} cannot be written to ({error.strerror}); pass a folder of yours."
        ) from error
    return folder


def check_writable(path: str | os.PathLike) -> None:
    """As `writable_folder`, and leave nothing behind: the command may yet be refused.

    Raises:
        ValueError: see `writable_folder`.
    """
    folder = Path(path)
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    writable_folder(path)
    with contextlib.suppress(OSError):  # somebody else wrote there meanwhile
        for place in made:
            place.rmdir()


def check_new_file(path: str | os.PathLike, said: str) -> None:
    """See that a file can be made there, before anything takes time; nothing is left behind.

    Args:
        path: of the file.
        said: how a command's user wrote it, for the error.

    Raises:
        ValueError: there is no such folder, or it cannot be written to.
    """
    folder = Path(path).parent
    if not folder.is_dir():
        raise ValueError(f"{said}: there is no folder {folder}.")
    try:
        _write_in(folder)
    except OSError as error:
        raise ValueError(
            f"{said} cannot be written ({error.strerror}); pass a file in a folder of yours."
        ) from error


def _write_in(folder: Path) -> None:
    """Make a file and take it away again."""
    probe = folder / ".fdrn_write_test"
    probe.touch()
    probe.unlink()
