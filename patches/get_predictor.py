"""`get_predictor(net, "NoBRS", ...)` gives the recycling predictor for an FDRN network.

The stock function runs as it is, with its own defaults and transforms; only the predictor classes
that it looks up by name are replaced, in a copy of its namespace and for FDRN networks alone.
"""

import functools
import types
from types import FunctionType, ModuleType
from typing import Any

from fdrn_adapter.patches.framework import EVERYWHERE, CannotApply, Patch
from fdrn_adapter.patches.shadow import require

# Modes that optimise the network's inputs or features by back-propagation for every click.
# They would have to differentiate through features that were computed once and detached.
BRS = "BRS"
NO_BRS = "NoBRS"


def is_fdrn(net: Any) -> bool:
    """Whether a network, or one of a (network, click models) pair, is an FDRN network."""
    if isinstance(net, (tuple, list)):
        return any(is_fdrn(part) for part in net)
    # Not at the top: stock scripts that need no predictor need not wait for the network.
    from fdrn_adapter import hosts

    return hosts.is_fdrn(net)


def make_recycling_predictor(base_class: type, net: Any, device: Any, **kwargs: Any) -> Any:
    """The recycling version of a stock predictor class."""
    # As in `is_fdrn`.
    from fdrn_adapter.session.predictor import recycling_predictor_for

    return recycling_predictor_for(base_class, net, device, **kwargs)


def check_mode(mode: str) -> None:
    """Refuse the modes that cannot work on recycled features.

    Raises:
        ValueError: for the BRS modes and for CDNet.
    """
    if (BRS in mode and mode != NO_BRS) or mode == "CDNet":
        raise ValueError(
            f"Got mode {mode!r} for an FDRN network. Its image features are computed once and "
            f"recycled, so only feed-forward modes work: use {NO_BRS!r} (or 'FocalClick' and "
            "'Baseline' in a FocalClick checkout)."
        )


def predictor_classes(module: ModuleType, function: FunctionType) -> dict[str, type]:
    """Feed-forward predictor classes that the stock function looks up by name."""
    found = {}
    for name in function.__code__.co_names:
        value = vars(module).get(name)
        if isinstance(value, type) and hasattr(value, "set_input_image"):
            if not any(BRS in cls.__name__ for cls in value.__mro__):
                found[name] = value
    return found


class GetPredictor(Patch):
    name = "get_predictor"
    targets = ("isegm.inference.predictors",)
    code_bases = EVERYWHERE
    reason = "FDRN networks encode the image once and recycle the features for every click"
    since = "always; an extension point"

    def apply(self, module: ModuleType) -> str | None:
        stock = require(module, "get_predictor")
        if not isinstance(stock, FunctionType) or stock.__globals__ is not vars(module):
            raise CannotApply(f"{module.__name__}.get_predictor is no plain function")
        classes = predictor_classes(module, stock)
        if not classes:
            raise CannotApply(f"{module.__name__}.get_predictor names no feed-forward predictor")

        @functools.wraps(stock)
        def get_predictor(net, brs_mode, device, *args, **kwargs):
            if not is_fdrn(net):
                return stock(net, brs_mode, device, *args, **kwargs)
            check_mode(brs_mode)
            makers = {
                name: functools.partial(make_recycling_predictor, cls)
                for name, cls in classes.items()
            }
            namespace = {**vars(module), **makers}
            twin = types.FunctionType(
                stock.__code__, namespace, stock.__name__, stock.__defaults__, stock.__closure__
            )
            twin.__kwdefaults__ = stock.__kwdefaults__
            return twin(net, brs_mode, device, *args, **kwargs)

        module.get_predictor = get_predictor
        return "recycling versions of " + ", ".join(classes)


PATCHES = (GetPredictor(),)
