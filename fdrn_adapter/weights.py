"""Weights: copied with all that hangs on them, and watched cheaply enough for every click."""

import copy
import itertools
from collections.abc import Iterable
from operator import attrgetter

from torch import Tensor, nn

_version = attrgetter("_version")


class Weights:
    """The parameters and buffers of some modules, watched.

    Args:
        modules: not their submodules.
    """

    def __init__(self, modules: Iterable[nn.Module]):
        # The modules' own dictionaries: assignments of new parameters are seen as well.
        self._places = [
            place for module in modules for place in (module._parameters, module._buffers) if place
        ]
        # Counters of batch norms do not enter any output.
        self._counts = [
            value is not None and name != "num_batches_tracked"
            for place in self._places for name, value in place.items()
        ]

    def _values(self) -> list[Tensor | None]:
        return list(itertools.chain.from_iterable(map(dict.values, self._places)))

    def state(self) -> tuple:
        """Changes whenever a tensor is written to or replaced, or all are moved (`Module.to`)."""
        values = self._values()
        ids = list(map(id, values))
        tensors = list(itertools.compress(values, self._counts))
        try:
            writes = list(map(_version, tensors))
        except (AttributeError, RuntimeError):  # one is gone, or was made in inference mode
            writes = [getattr(t, "_version", 0) if t is not None and not t.is_inference() else 0
                      for t in tensors]
        return tensors[0].data_ptr() if tensors else 0, ids, writes


def copy_network(net: nn.Module) -> nn.Module:
    """Deep copy that keeps what the stock code hangs on parameters.

    `copy.deepcopy` of a Parameter drops its attributes, and with them the `lr_mult` that the stock
    optimizer reads: a copy would silently train its backbone ten times faster than the original.
    """
    duplicate = copy.deepcopy(net)
    for old, new in zip(net.parameters(), duplicate.parameters(), strict=True):
        new.__dict__.update(old.__dict__)
    return duplicate
