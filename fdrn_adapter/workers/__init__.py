"""A function over many items: in this process, in several, or on the machines of a Ray cluster."""

from fdrn_adapter import lazy

__getattr__, __dir__, __all__ = lazy.face(__name__, {
    "limits": ("end_with", "few_threads"),
    "places": ("HERE", "Workers", "in_order"),
})
