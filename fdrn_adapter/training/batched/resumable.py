"""The training state of `fdrn train`: what a training needs to go on, checked before it is used."""

from pathlib import Path
from typing import Any

from fdrn_adapter import schemas
from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.training import state
from fdrn_adapter.weight_files import read_file, write_whole

NAME = state.NAME
_FORMAT = "fdrn_adapter.train/1"


def write(path: Path, **parts: Any) -> None:
    """Write a training state; a crash while writing keeps the one before."""
    write_whole(path, {"format": _FORMAT, **parts})


def read(path: Path) -> dict[str, Any]:
    """Read a training state; no code in it is run.

    Raises:
        CheckpointError: it is not one of `fdrn train`, or holds something else than it should.
    """
    stored = read_file(path, "cpu")
    if not isinstance(stored, dict) or stored.pop("format", None) != _FORMAT:
        raise CheckpointError(
            f"{path} is no training state of `fdrn train`; pass another --out, or delete it to "
            "start anew."
        )
    return schemas.require(stored, str(path), _SCHEMA)


def _numbers(value: Any) -> None:
    if not isinstance(value, list) or not all(_is_number(n) for n in value):
        raise schemas.Unfit("a list of numbers")


def _rows(value: Any) -> None:
    if not isinstance(value, list):
        raise schemas.Unfit("a list of rows")
    for row in value:
        _numbers(row)


def _number(value: Any) -> None:
    if not _is_number(value):
        raise schemas.Unfit("a number")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_SCHEMA = {
    "step": schemas.whole(), "seen": schemas.whole(), "weights": schemas.tensors,
    "optimizer": state.optimizer, "curve": _rows, "sums": _numbers, "seconds": _number,
    "plan": schemas.mapping,
}
