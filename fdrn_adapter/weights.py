"""Weights: copied with all that hangs on them, and watched cheaply enough for every click."""

import copy
import itertools
import zlib
from collections.abc import Iterable
from operator import attrgetter, is_not
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_version = attrgetter("_version")
_COLUMNS = 1021  # a prime, so that whole filters and channels that change places change columns


class Weights:
    """The parameters and buffers of some modules, watched.

    Args:
        modules: not their submodules.
    """

    def __init__(self, modules: Iterable[nn.Module]):
        # The modules' own dictionaries: assignments of new parameters are seen as well, and no
        # module is kept alive.
        self._dictionaries = [vars(module) for module in modules]
        self._places = [
            place for held in self._dictionaries
            for place in (held["_parameters"], held["_buffers"]) if place
        ]
        # Counters of batch norms do not enter any output.
        self._counts = [
            value is not None and name != "num_batches_tracked"
            for place in self._places for name, value in place.items()
        ]
        self._looked: tuple | None = None
        self._seen: dict[int, tuple[int, int, np.ndarray]] = {}  # bytes of tensors, by their id
        self._parts = list(map(_children, self._dictionaries))
        self._settings = [_Settings(held) for held in self._dictionaries]

    def _values(self) -> list[Tensor | None]:
        return list(itertools.chain.from_iterable(map(dict.values, self._places)))

    def state(self) -> tuple:
        """Changes whenever a tensor is written to or replaced, or all are moved (`Module.to`).

        What is written past torch's own counters is seen after the next `look`.
        """
        values = self._values()
        ids = list(map(id, values))
        tensors = list(itertools.compress(values, self._counts))
        try:
            writes = list(map(_version, tensors))
        except (AttributeError, RuntimeError):  # one is gone, or was made in inference mode
            writes = [getattr(t, "_version", 0) if t is not None and not t.is_inference() else 0
                      for t in tensors]
        return tensors[0].data_ptr() if tensors else 0, ids, writes, self._looked

    def modules_stayed(self) -> bool:
        """Whether no module was put in place of another in them, added or taken away."""
        return not any(map(_others, map(_children, self._dictionaries), self._parts))

    def look(self) -> None:
        """Read everything, and let `state` change where that is not what it was.

        For writes through `.data`, views in numpy and other memory that is shared, and for numbers
        that modules hold beside their weights, as a batch norm its eps. Takes about half a
        millisecond for a million weights.
        """
        tensors = [t for t in itertools.compress(self._values(), self._counts) if t is not None]
        looked = (
            tuple(map(self._content, tensors)), tuple(known.now() for known in self._settings))
        if len(self._seen) > len(tensors):  # some were replaced
            self._seen.clear()
        if looked != self._looked:
            self._looked = looked

    def _content(self, tensor: Tensor) -> Any:
        if tensor.device.type != "cpu" or not tensor.is_contiguous():
            return content_of(tensor)
        # What memory a tensor has is asked at each look; its bytes are then read without torch,
        # which would take longer for a small one than all else.
        place, size, values = self._seen.get(id(tensor), (0, 0, None))
        if values is None or place != tensor.data_ptr() or size != tensor.nbytes:
            values = _bytes_of(tensor)
            self._seen[id(tensor)] = tensor.data_ptr(), tensor.nbytes, values
        return _summed(values)


def _children(dictionary: dict[str, Any]) -> list[nn.Module | None]:
    return list(dictionary["_modules"].values())


def _others(values: list, known: list) -> bool:
    """Whether one of the objects is another than before."""
    return len(values) != len(known) or any(map(is_not, values, known))


def content_of(tensor: Tensor) -> Any:
    """A sum over all of a tensor's bytes and their order, which tells its contents apart."""
    return _summed(_bytes_of(tensor))


def _bytes_of(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _summed(values: np.ndarray) -> Any:
    whole = len(values) // (8 * _COLUMNS) * 8 * _COLUMNS
    if not whole:
        return zlib.crc32(values)
    # Faster than a checksum of all of it.
    sums = values[:whole].view(np.int64).reshape(-1, _COLUMNS).sum(0)
    return zlib.crc32(values[whole:]), zlib.crc32(sums)


class _Settings:
    """`settings_of` a module, worked out anew where it has other values than before."""

    def __init__(self, dictionary: dict[str, Any]):
        self._dictionary, self._values = dictionary, []
        self._plain, self._open = (), []

    def now(self) -> tuple:
        values = list(self._dictionary.values())
        if _others(values, self._values):
            self._values = values
            # Tensors, and what may hold some, can change without being replaced.
            self._open = [name for name, value in self._dictionary.items()
                          if _counts(name) and _may_hold_tensors(value)]
            self._plain = settings_of(
                {k: v for k, v in self._dictionary.items() if k not in self._open})
        if not self._open:
            return self._plain
        return self._plain, settings_of({name: self._dictionary[name] for name in self._open})


def settings_of(dictionary: dict[str, Any]) -> tuple:
    """What a module computes with besides weights: its numbers, and tensors that are no buffers.

    Args:
        dictionary: `vars(module)`.
    """
    return tuple(
        (name, known) for name, value in dictionary.items()
        if _counts(name) and (known := _known(value)) is not None
    )


def _counts(name: str) -> bool:
    return name[0] != "_" and name != "training"


def _may_hold_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (
        hasattr(value, "__dict__") and not isinstance(value, nn.Module | type))


def _known(value: Any) -> Any:
    if isinstance(value, Tensor):
        return content_of(value)
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple) and all(isinstance(v, int | float | str) for v in value):
        return value  # as a convolution's stride
    if isinstance(value, nn.Module | type):
        return None
    # As the normalisation of the stock code, which is no module.
    held = [v for v in getattr(value, "__dict__", {}).values() if isinstance(v, Tensor)]
    return tuple(map(content_of, held)) or None


def copy_network(net: nn.Module) -> nn.Module:
    """Deep copy that keeps what the stock code hangs on parameters.

    `copy.deepcopy` of a Parameter drops its attributes, and with them the `lr_mult` that the stock
    optimizer reads: a copy would silently train its backbone ten times faster than the original.
    """
    duplicate = copy.deepcopy(net)
    for old, new in zip(net.parameters(), duplicate.parameters(), strict=True):
        new.__dict__.update(old.__dict__)
    return duplicate
