"""What our own files must hold, checked before anything of it is used.

A schema is a dict of field name -> check; a check raises `Unfit` with what is expected. A file's
fields are all looked at, and all that is wrong is said at once.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fdrn_adapter.errors import CheckpointError

Check = Callable[[Any], None]
_LONGEST_SIDE = 2**20  # pixels


class Unfit(ValueError):
    """A field does not hold what it should; the message says what that is."""


def require(
    stored: Any, source: str, fields: Mapping[str, Check],
    optional: Mapping[str, Check] | None = None,
) -> dict[str, Any]:
    """The content of a file as a dict that fits a schema.

    Args:
        stored: what was read.
        source: of it, for messages.
        fields: all of these must be there.
        optional: these may be.

    Raises:
        CheckpointError: names every field that is missing, unknown or unfit.
    """
    if not isinstance(stored, dict):
        raise CheckpointError(f"{source} should hold a dict, got {described(stored)}.")
    optional = optional or {}
    wrong = [f"{name!r} is missing" for name in fields if name not in stored]
    wrong += [
        f"{name!r} is not known" for name in stored if name not in fields and name not in optional
    ]
    for name, check in {**fields, **optional}.items():
        if name in stored:
            try:
                check(stored[name])
            except Unfit as error:
                wrong.append(f"{name!r} should be {error}, got {described(stored[name])}")
    if wrong:
        raise CheckpointError(f"{source} is damaged or of another version: {'; '.join(wrong)}.")
    return stored


def described(value: Any) -> str:
    """A value in a message: itself if it is short."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, dict | list | tuple | set):
        return f"a {type(value).__name__} of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"a {type(value).__name__}"


# -- checks ------------------------------------------------------------------------------------


def text(value: Any) -> None:
    if not isinstance(value, str):
        raise Unfit("a text")


def whole(least: int = 0, most: int = 2**53) -> Check:
    """A whole number of that range."""

    def check(value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise Unfit(f"a whole number from {least} to {most}")

    return check


def size(value: Any) -> None:
    """Rows and columns."""
    sides = value if isinstance(value, list | tuple) else ()
    if len(sides) != 2 or not all(
        isinstance(n, int) and not isinstance(n, bool) and 0 < n <= _LONGEST_SIDE for n in sides
    ):
        raise Unfit("two whole numbers of pixels, rows and columns")


def mapping(value: Any) -> None:
    if not isinstance(value, dict):
        raise Unfit("a dict")


def tensors(value: Any) -> None:
    """Names with dense, finite tensors."""
    if not isinstance(value, Mapping) or not all(
        isinstance(name, str) and isinstance(t, Tensor) for name, t in value.items()
    ):
        raise Unfit("names with tensors")
    strange = [name for name, t in value.items() if not is_dense(t)]
    if strange:
        raise Unfit(f"dense tensors that are stored whole ({', '.join(strange[:3])} are not)")
    bad = [name for name, t in value.items() if not finite(t)]
    if bad:
        raise Unfit(f"finite numbers ({', '.join(bad[:3])} {'has' if len(bad) == 1 else 'have'} "
                    "NaN or infinity)")


def is_dense(tensor: Tensor) -> bool:
    """Whether a tensor's values are all in its storage: no sparse, quantized or repeated ones."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()


def finite(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    return tensor.numel() == 0 or bool(torch.isfinite(tensor).all())
