"""The file behind `onnx:FILE`, looked for without torch: before anything slow is imported."""

import os
from pathlib import Path

from fdrn_adapter.close_names import close_paths, did_you_mean

PREFIX = "onnx:"
VARIABLE = "FDRN_SAM_ENCODER"  # names the file of "onnx:" alone


def file_of(encoder: str) -> Path | None:
    """The file that an encoder's name leads to; None for "onnx:" where the variable is not set.

    Raises:
        ValueError: it is not there; what looks like it is named.
    """
    name = encoder.removeprefix(PREFIX)
    text = name or os.environ.get(VARIABLE, "")
    path = Path(text).expanduser()
    if not text or path.is_file():
        return path if text else None
    close = did_you_mean(close_paths(text))
    if not name:
        raise ValueError(f"{VARIABLE}={text}: there is no such file.{close}")
    raise ValueError(
        f"encoder={encoder!r}: there is no file {name!r}.{close} Name the image encoder of SAM or "
        f"one like it in ONNX, or 'onnx:' alone for that of the variable {VARIABLE}."
    )
