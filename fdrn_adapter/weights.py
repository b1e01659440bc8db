"""Weights: copied with all that hangs on them, and watched cheaply enough for every click."""

import copy
import itertools
import zlib
from collections.abc import Iterable
from operator import attrgetter
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

    def are_of(self, modules: Iterable[nn.Module]) -> bool:
        """Whether they are those of these modules, none of which was replaced meanwhile."""
        return [id(vars(m)) for m in modules] == list(map(id, self._dictionaries))

    def look(self) -> None:
        """Read everything, and let `state` change where that is not what it was.

        For writes through `.data`, views in numpy and other memory that is shared, and for numbers
        that modules hold beside their weights, as a batch norm its eps. Takes about a millisecond
        for a million weights.
        """
        tensors = itertools.compress(self._values(), self._counts)
        self._looked = (
            tuple(content_of(t) for t in tensors if t is not None),
            tuple(map(settings_of, self._dictionaries)),
        )


def content_of(tensor: Tensor) -> Any:
    """A sum over all of a tensor's bytes and their order, which tells its contents apart."""
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    whole = len(values) // (8 * _COLUMNS) * 8 * _COLUMNS
    rest = zlib.crc32(values[whole:])
    if not whole:
        return rest
    # Faster than a checksum of all of it.
    sums = values[:whole].view(np.int64).reshape(-1, _COLUMNS).sum(0)
    return rest, zlib.crc32(sums)


def settings_of(dictionary: dict[str, Any]) -> tuple:
    """What a module computes with besides weights: its numbers, and tensors that are no buffers.

    Args:
        dictionary: `vars(module)`.
    """
    return tuple(
        (name, known) for name, value in dictionary.items()
        if name[0] != "_" and name != "training" and (known := _known(value)) is not None
    )


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
