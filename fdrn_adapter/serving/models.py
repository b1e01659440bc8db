"""The network that an adapter serves, by name, behind the bridge."""

from dataclasses import dataclass
from typing import Any

from fdrn_adapter.serving.bridge import DEFAULT_BYTES, PromptSession
from fdrn_adapter.zoo.entries import DEFAULT_NAME as DEFAULT_MODEL
from fdrn_adapter.zoo.named import announced


@dataclass(frozen=True)
class ServedModel:
    """A network by the name that it was asked for, and its bridge."""

    name: str
    bridge: PromptSession


def open_model(
    model: str = DEFAULT_MODEL, codebase: str | None = None, max_bytes: int = DEFAULT_BYTES,
    **options: Any,
) -> ServedModel:
    """Load a network to be served.

    Args:
        model: name of the zoo, or path of a checkpoint.
        codebase: checkout to build it from; None for what is installed.
        max_bytes: see `PromptSession`.
        **options: `batch` of `PromptSession`, and those of InteractiveSession; `crop` is the
            network's own by default.

    Raises:
        ValueError: there is no such network, or an option is out of range.
    """
    return ServedModel(
        model, PromptSession(announced(model, codebase).model, max_bytes, **options)
    )
