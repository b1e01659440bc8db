"""Files of tensors: read without running code, written whole."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fdrn_adapter.errors import CheckpointError


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """`torch.save`; a crash while writing keeps the old file."""
    part = path.with_name(path.name + ".part")
    torch.save(content, part)
    part.replace(path)


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

    Raises:
        CheckpointError: there is no such file, it is truncated, or it would run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}.")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise CheckpointError(
                f"{path} holds more than tensors and plain values, and reading it would run code; "
                "it was not read. If you trust it, load it yourself with "
                "torch.load(path, weights_only=False) and save its tensors again with "
                f"fdrn_adapter.save. torch says: {str(error).splitlines()[0]}"
            ) from error
        raise CheckpointError(_unreadable(path, error)) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: Exception) -> str:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f"{path} ({path.stat().st_size} bytes) cannot be read as a PyTorch file: it is truncated "
        f"or of another kind. Copy or download it again. torch says: {reason}"
    )
