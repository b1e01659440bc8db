"""What a checkpoint may name: networks of the known code bases, and nothing else of this machine.

A checkpoint says by a dotted name which class it is of, and the stock code imports and calls
whatever that is: `os._exit` as well as a network. Here a file chooses among networks of packages
that are known or that the caller names; it never decides what is imported.
"""

import contextlib
import importlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from fdrn_adapter.errors import CheckpointError

# Packages that carry the stock classes under the same sub-paths, in the order they are tried.
HOST_PACKAGES = ("isegm", "ritm_annotation")
NORM_LAYERS = {
    name: cls
    for cls in (nn.BatchNorm2d, nn.SyncBatchNorm, nn.InstanceNorm2d, nn.Identity)
    for name in (f"{cls.__module__}.{cls.__name__}", f"torch.nn.{cls.__name__}")
}
_granted: ContextVar[tuple[str, ...]] = ContextVar("granted", default=())
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_MOST_VALUES = 10_000  # of a config; real ones have some 30
_DEEPEST = 8


def packages_of(trust: str | Sequence[str]) -> tuple[str, ...]:
    """The packages whose classes a checkpoint may name.

    Args:
        trust: top-level packages that the caller trusts beside the known ones.

    Raises:
        ValueError: not names of packages.
    """
    given = (trust,) if isinstance(trust, str) else tuple(trust)
    for name in given:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(
                f"trust is a list of top-level packages, such as ['my_fork']; got {name!r}."
            )
    return (*HOST_PACKAGES, *given)


@contextlib.contextmanager
def granting(packages: Sequence[str]) -> Iterator[None]:
    """Let stock loaders that are patched (`fdrn run`, the zoo) take what the caller trusts."""
    token = _granted.set(tuple(packages))
    try:
        yield
    finally:
        _granted.reset(token)


def granted() -> tuple[str, ...]:
    """The packages of the innermost `granting`."""
    return _granted.get()


def check_config(config: Any) -> None:
    """See that a config is {"class": name, "params": {name: {type, value, specified}}}.

    Nothing is imported.

    Raises:
        CheckpointError: it is not, or it holds something else than plain values.
    """
    if not isinstance(config, dict) or not {"class", "params"} <= config.keys():
        raise CheckpointError(
            f"A network is described by a dict with 'class' and 'params', got {_short(config)}."
        )
    _check_name(config["class"])
    if not isinstance(config["params"], dict):
        raise CheckpointError(f"'params' should be a dict, got {_short(config['params'])}.")
    _check_plain(config["params"])
    for name, param in config["params"].items():
        if not isinstance(param, dict) or not {"type", "value", "specified"} <= param.keys():
            raise CheckpointError(
                f"The parameter {_short(name)} should be a dict with 'type', 'value' and "
                f"'specified', got {_short(param)}."
            )
        if param["type"] not in ("builtin", "class"):
            raise CheckpointError(
                f"The parameter {_short(name)} is of type {_short(param['type'])}; allowed are "
                "'builtin' and 'class'."
            )
        if param["type"] == "class":
            _check_name(param["value"])


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or len(name) > 300 or not _NAME.fullmatch(name):
        raise CheckpointError(f"A class is written package.module.Name, got {_short(name)}.")


def _check_plain(value: Any) -> None:
    """Texts, numbers and containers of them, few enough to be looked at."""
    waiting, seen = [(value, 0)], 0
    while waiting:
        one, depth = waiting.pop()
        seen += 1
        if seen > _MOST_VALUES or depth > _DEEPEST:
            raise CheckpointError(
                f"The config has more than {_MOST_VALUES} values or {_DEEPEST} levels; those of "
                "real networks have some 30 and 4."
            )
        if isinstance(one, dict):
            if not all(isinstance(key, str | int) for key in one):
                raise CheckpointError("Names in the config should be texts or whole numbers.")
            waiting += [(v, depth + 1) for v in one.values()]
        elif isinstance(one, list | tuple):
            waiting += [(v, depth + 1) for v in one]
        elif not (one is None or isinstance(one, bool | int | float | str)):
            raise CheckpointError(
                f"The config holds a {type(one).__name__}; allowed are texts, numbers, None, "
                "lists and dicts."
            )


def network_class(name: str, packages: Sequence[str]) -> type[nn.Module]:
    """The class of that dotted name.

    Args:
        name: checked by `check_config`.
        packages: from `packages_of`.

    Raises:
        CheckpointError: of another package, or no network; nothing of another package is imported.
        ImportError, AttributeError: the package, the module or the class does not exist.
    """
    root, _, rest = name.partition(".")
    if root not in packages:
        raise CheckpointError(refusal(name))
    # A fork may keep its networks anywhere; the known packages keep theirs here.
    if root in HOST_PACKAGES and not rest.startswith("model."):
        raise CheckpointError(
            f"{name} is no network: those of {root} are in {root}.model. It was not imported."
        )
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    own = isinstance(found, type) and found.__module__.partition(".")[0] == root
    if not own or not issubclass(found, nn.Module):
        raise CheckpointError(
            f"{name} is no network class of {root}; a checkpoint may name nothing else."
        )
    return found


def parameter_class(name: str, packages: Sequence[str]) -> type[nn.Module]:
    """A class that a network takes as an argument: a norm layer, or one of a package's own.

    Raises:
        CheckpointError: anything else.
        ImportError, AttributeError: it does not exist.
    """
    if name in NORM_LAYERS:
        return NORM_LAYERS[name]
    if name.partition(".")[0] not in packages:
        short = ", ".join(sorted({cls.__name__ for cls in NORM_LAYERS.values()}))
        raise CheckpointError(
            f"The config names {name} as a layer; allowed are {short} of torch.nn and networks of "
            "the known packages. It was not imported."
        )
    return network_class(name, packages)


def refusal(name: str) -> str:
    """Why a class of an unknown package is not imported, and how to have it."""
    root = name.partition(".")[0]
    return (
        f"The checkpoint names the class {name}, and {root} is none of the packages whose networks "
        f"are known ({', '.join(HOST_PACKAGES)}); it was not imported. If you trust that package: "
        f"fdrn_adapter.load(path, trust=[{root!r}])."
    )


def installed(package: str) -> bool:
    """Whether a top-level package could be imported; it is not."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # half-initialised modules have no spec
        return True


def check_width(config: dict[str, Any], weights: Any, build: Any) -> None:
    """Refuse a description of a network that is far larger than the weights beside it.

    A line in a file must not allocate the machine's memory. Networks wider than any stock one are
    built on torch's meta device first, which allocates nothing.

    Args:
        config: of a stock network.
        weights: the stored state dict.
        build: makes the network.

    Raises:
        CheckpointError: it has more than twice as many values as are stored.
    """
    wide = {"width": 64, "ocr_width": 512}
    values = {name: param["value"] for name, param in config["params"].items()}
    if all(not isinstance(values.get(n), int) or values[n] <= most for n, most in wide.items()):
        return
    with torch.device("meta"):
        described = sum(t.numel() for t in build().state_dict().values())
    stored = sum(t.numel() for t in weights.values() if isinstance(t, Tensor))
    if described > 2 * stored:
        raise CheckpointError(
            f"The network it describes has {described:.3g} values, and {stored:.3g} are stored."
        )


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool | None) else \
        f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."
