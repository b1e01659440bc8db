"""Weights: copied with all that hangs on them, and watched cheaply enough for every click."""

import copy
import itertools
import zlib
from collections.abc import Iterable
from operator import attrgetter, is_not, itemgetter, not_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_version, _nbytes = attrgetter("_version"), attrgetter("nbytes")
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
        self._read = _Memory([])
        self._parts = self._children()
        self._settings = _Settings(self._dictionaries)

    def _values(self) -> list[Tensor | None]:
        return _values_of(self._places)

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
        counts, modules = self._children()
        return counts == self._parts[0] and not _others(modules, self._parts[1])

    def _children(self) -> tuple[list[int], list[nn.Module | None]]:
        """How many each module has, and all of them."""
        held = [dictionary["_modules"] for dictionary in self._dictionaries]
        return list(map(len, held)), _values_of(held)

    def look(self) -> None:
        """Read everything, and let `state` change where that is not what it was.

        For writes through `.data`, views in numpy and other memory that is shared, and for numbers
        that modules hold beside their weights, as a batch norm its eps. Takes about 1.5 ms
        for a million weights on an AMD EPYC (Zen 1), much of it for their number of modules.
        """
        tensors = [t for t in itertools.compress(self._values(), self._counts) if t is not None]
        if not self._read.holds(tensors):
            self._read = _Memory(tensors)
        looked = self._read.content(), self._settings.now()
        if looked != self._looked:
            self._looked = looked


class _Memory:
    """The bytes of many tensors, read without torch, which takes longer for a small one."""

    def __init__(self, tensors: list[Tensor]):
        self._tensors, self._layout = tensors, _layout_of(tensors)
        plain = [t.device.type == "cpu" and t.is_contiguous() for t in tensors]
        known = [_halves(_bytes_of(t)) for t in itertools.compress(tensors, plain)]
        self._rows = [rows for rows, _ in known if len(rows)]
        self._rest = [rest for _, rest in known]
        self._all_sums = np.empty((len(self._rows), _COLUMNS), np.int64)
        self._sums = list(self._all_sums)
        self._others: list[Tensor] = []
        self._on_devices: dict[torch.device, list[Tensor]] = {}
        for t in itertools.compress(tensors, map(not_, plain)):
            if not _lies_whole_on_a_device(t):
                self._others.append(t)
            elif t.numel():
                flat = t.detach().as_strided((t.numel(),), (1,)).view(torch.uint8)
                self._on_devices.setdefault(t.device, []).append(flat)

    def holds(self, tensors: list[Tensor]) -> bool:
        """Whether these are the tensors, with the same memory in the same order."""
        return not _others(tensors, self._tensors) and self._layout == _layout_of(tensors)

    def content(self) -> tuple:
        """A sum over all bytes and their order, as `content_of`."""
        for rows, sums in zip(self._rows, self._sums, strict=True):
            np.add.reduce(rows, 0, out=sums)
        rest = np.concatenate(self._rest) if self._rest else b""
        others = [*map(content_of, self._others), *map(_content_there, self._on_devices.values())]
        return zlib.crc32(self._all_sums), zlib.crc32(rest), tuple(others)


def _lies_whole_on_a_device(tensor: Tensor) -> bool:
    """Whether it is on a GPU, in one piece of memory without gaps."""
    return tensor.device.type != "cpu" and torch.ops.aten.is_non_overlapping_and_dense(tensor)


@torch.no_grad()
def _content_there(parts: list[Tensor]) -> tuple[int, int]:
    """`content_of` for many tensors of one device, which is waited for once.

    Args:
        parts: flat bytes.
    """
    values = torch.cat(parts)
    whole = len(values) // (8 * _COLUMNS) * 8 * _COLUMNS
    sums = values[:whole].view(torch.int64).view(-1, _COLUMNS).sum(0)
    found = torch.cat([sums.view(torch.uint8), values[whole:]]).cpu().numpy()
    return zlib.crc32(found[: 8 * _COLUMNS]), zlib.crc32(found[8 * _COLUMNS :])


def _layout_of(tensors: list[Tensor]) -> tuple[list, list, list]:
    return (list(map(Tensor.data_ptr, tensors)), list(map(_nbytes, tensors)),
            list(map(Tensor.stride, tensors)))


def _values_of(dictionaries: list[dict[str, Any]]) -> list:
    return list(itertools.chain.from_iterable(map(dict.values, dictionaries)))


def _others(values: list, known: list) -> bool:
    """Whether one of the objects is another than before."""
    return len(values) != len(known) or any(map(is_not, values, known))


def content_of(tensor: Tensor) -> tuple[int, int]:
    """A sum over all of a tensor's bytes and their order, which tells its contents apart."""
    rows, rest = _halves(_bytes_of(tensor))
    return zlib.crc32(rows.sum(0)), zlib.crc32(rest)


def _bytes_of(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _halves(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of int64 to be summed, faster than a checksum of all, and what is too short for one."""
    whole = len(values) // (8 * _COLUMNS) * 8 * _COLUMNS
    return values[:whole].view(np.int64).reshape(-1, _COLUMNS), values[whole:]


class _Settings:
    """`settings_of` some modules, worked out anew where they have other values than before.

    Args:
        dictionaries: `vars` of each.
    """

    def __init__(self, dictionaries: list[dict[str, Any]]):
        self._dictionaries, self._values, self._lengths = dictionaries, [], []
        self._pickers, self._plain, self._open = [], (), []

    def now(self) -> tuple:
        # Only a fifth of what a module holds counts.
        try:
            values = [value for pick, held in self._pickers for value in pick(held)]
        except KeyError:
            values = []
        if _others(values, self._values) or list(map(len, self._dictionaries)) != self._lengths:
            self._learn()
        return self._plain, tuple(map(settings_of, self._open))

    def _learn(self) -> None:
        names = [list(filter(_counts, held)) for held in self._dictionaries]
        # An itemgetter of one name returns no tuple: the first is asked for twice.
        self._pickers = [(itemgetter(own[0], *own), held)
                         for own, held in zip(names, self._dictionaries, strict=True) if own]
        self._values = [value for pick, held in self._pickers for value in pick(held)]
        self._lengths = list(map(len, self._dictionaries))
        # Tensors, and what may hold some, can change without being replaced.
        parts = [{name: held[name] for name in own if _may_hold_tensors(held[name])}
                 for own, held in zip(names, self._dictionaries, strict=True)]
        self._open = [part for part in parts if part]
        self._plain = tuple(
            settings_of({name: held[name] for name in own if name not in part})
            for own, held, part in zip(names, self._dictionaries, parts, strict=True))


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
