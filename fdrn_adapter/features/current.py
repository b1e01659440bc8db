"""What models recycle now: the package's one context variable.

    with current.using(model, recycling):    # the user, a session
        model(crops, points)

A model finds there what it was given (`of`), aligns it to its crops, and lets its own injections
find that by the same way while it runs. So do the engines' graphs. Threads, and calls within calls,
never see each other's features.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any


class Key:
    """Stands for a model here.

    A model, its injections and whoever runs it in its place have one in common, as their
    attribute `recycling_key`; a copy of the model has another. Hooks that held the model itself
    would make a reference cycle.
    """


_now: ContextVar[Mapping[Any, Any]] = ContextVar("fdrn_recycled", default=MappingProxyType({}))


def of(owner: Any) -> Any | None:
    """What a model, or whatever has its key, recycles now; None outside of `using`.

    Args:
        owner: with a `recycling_key`.
    """
    return _now.get().get(owner.recycling_key)


@contextmanager
def using(owner: Any, recycled: Any) -> Iterator[Any]:
    """Let a model recycle something, in this thread and context, while the context lasts.

    Args:
        owner: the model, or whatever has its `recycling_key`.
        recycled: a Recycling or DeferredRecycling for the model to align, or Aligned for its
            injections to take.
    """
    token = _now.set({**_now.get(), owner.recycling_key: recycled})
    try:
        yield recycled
    finally:
        _now.reset(token)
