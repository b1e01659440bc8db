"""Files of tensors: looked at before they are read, read without running code, written whole."""

import io
import pickle
import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.output_folders import whole_file
from fdrn_adapter.schemas import is_dense

# Instructions of a pickle. A network of 1,200 tensors has 37,000, and its training state four
# times as many; a million take seconds to run.
_MOST_INSTRUCTIONS = 1_000_000
_LEGACY_PICKLES = 5  # magic number, protocol, system, content, names of storages


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """`torch.save`; a crash while writing keeps the old file.

    Raises:
        OSError: names the file; the old one is as it was.
    """
    try:
        with whole_file(path) as part:
            torch.save(content, part)
    except RuntimeError as error:  # torch's writer says so when the disk is full
        raise OSError(f"{path} cannot be written: {str(error).splitlines()[0]}") from error


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """A plain state dict from a file, also from inside a checkpoint."""
    stored = read_file(path, "cpu")
    if isinstance(stored, dict) and isinstance(stored.get("state_dict"), Mapping):
        stored = stored["state_dict"]
    if not isinstance(stored, Mapping) or not all(isinstance(v, Tensor) for v in stored.values()):
        raise CheckpointError(f"{path} does not hold a state dict (names with tensors).")
    return dict(stored)


def read_file(path: str | Path, device: str | torch.device) -> Any:
    """`torch.load` with weights_only=True and errors that say what is wrong.

    The file is looked at first: the checksums of its parts, that it unpacks to no more than its
    own size, and how long its pickle would run.

    Raises:
        CheckpointError: there is no such file, it is damaged, it would run code, or reading it
            would take far more memory or time than a file of tensors does.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}.")
    _look_at(path)
    try:
        stored = torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise CheckpointError(
                f"{path} holds more than tensors and plain values, and reading it would run code; "
                "it was not read. If you trust it, load it yourself with "
                "torch.load(path, weights_only=False) and save its tensors again with "
                f"fdrn_adapter.save. torch says: {str(error).splitlines()[0]}"
            ) from error
        raise CheckpointError(_unreadable(path, error)) from error
    except Exception as error:  # of damaged bytes torch's unpickler raises whatever it meets
        raise CheckpointError(_unreadable(path, error)) from error
    _check_tensors(path, stored)
    return stored


def _look_at(path: Path) -> None:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _check_archive(path, archive)
        else:
            with path.open("rb") as file:
                _check_length(path, file, _LEGACY_PICKLES)
    except (zipfile.BadZipFile, EOFError, ValueError, OSError, NotImplementedError) as error:
        raise CheckpointError(_unreadable(path, error)) from error


def _check_archive(path: Path, archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    packed = [e.filename for e in entries if e.compress_type != zipfile.ZIP_STORED]
    if packed or sum(e.file_size for e in entries) > path.stat().st_size:
        raise CheckpointError(
            f"{path} ({path.stat().st_size} bytes) would unpack to "
            f"{sum(e.file_size for e in entries)} bytes; torch stores tensors unpacked. It was not "
            "read. If you trust it, load it with torch and save it again."
        )
    damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(
            f"{path} is damaged: the checksum of {damaged} in it is not that of its content. Copy "
            "or download it again."
        )
    for entry in entries:
        if entry.filename.endswith(".pkl"):
            _check_length(path, io.BytesIO(archive.read(entry)), 1)


def _check_length(path: Path, file: IO[bytes], pickles: int) -> None:
    """See that pickles do not run for long."""
    left = _MOST_INSTRUCTIONS
    for _ in range(pickles):
        for _ in pickletools.genops(file):
            left -= 1
            if left < 0:
                raise CheckpointError(
                    f"{path} holds a pickle of more than {_MOST_INSTRUCTIONS} instructions; "
                    "networks of a thousand tensors have some 40,000. It was not read."
                )


def _check_tensors(path: Path, stored: Any) -> None:
    """See that every tensor's values are stored: a few bytes can claim to be terabytes."""
    waiting, seen = [stored], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, Tensor):
            if not is_dense(one):
                raise CheckpointError(
                    f"{path} holds a tensor {tuple(one.shape)} whose values are not all stored "
                    "(sparse, repeated or without data); save it as a plain one."
                )
        elif isinstance(one, Mapping | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            waiting += one.values() if isinstance(one, Mapping) else one


def _unreadable(path: Path, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f"{path} ({path.stat().st_size} bytes) cannot be read as a PyTorch file: it is truncated "
        f"or of another kind. Copy or download it again. torch says: {reason}"
    )
