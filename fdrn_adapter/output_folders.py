"""Where results are written: one writer of a folder at a time; files, and groups, whole or not."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".fdrn.lock"


class FolderInUseError(ValueError):
    """Another process writes to the same folder."""


@contextlib.contextmanager
def only_writer(folder: str | Path, what: str) -> Iterator[None]:
    """Be the one writer of a folder, which exists.

    The lock ends with the process, however it ends; its file stays and means nothing.

    Args:
        folder: to be written to.
        what: is done there, for the message of others: "a benchmark".

    Raises:
        FolderInUseError: somebody else is.
    """
    lock = FileLock(Path(folder) / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FolderInUseError(
            f"Another process writes {what} to {folder}: wait for it, or give this one a folder of "
            "its own."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def together(folder: str | Path, manifest: str) -> Iterator[Path]:
    """Replace a group of files of a folder by another, seen whole or not at all.

    Files are written aside, in the folder that is yielded. At the end the old manifest goes, the
    files take their places, and the new manifest comes last: what has no manifest is not to be
    read, and whoever reads can compare the checksums in it (`changed`). After an error the folder
    is as it was; what a process that was killed left aside goes with the next one.

    Args:
        folder: made if needed; other files in it stay.
        manifest: name of the file that the others belong to, which the caller writes.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder / f".{manifest}.part"  # the caller is the folder's only writer
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        made = sorted(p.relative_to(aside) for p in aside.rglob("*") if not p.is_dir())
        (folder / manifest).unlink(missing_ok=True)
        for name in sorted(made, key=lambda name: str(name) == manifest):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).replace(folder / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Replace a file by another, seen whole or not at all; what was there stays after an error.

    Yields:
        the path to write to, beside it.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def changed(folder: Path, recorded: Mapping[str, str]) -> list[str]:
    """The files that are missing or whose sha256 is not the recorded one."""
    return [
        name for name, digest in recorded.items()
        if not (folder / name).is_file() or checksum(folder / name) != digest
    ]
