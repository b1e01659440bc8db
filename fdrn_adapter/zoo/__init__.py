"""The variants of the paper's Table 2 and networks trained here, by name."""

from typing import TYPE_CHECKING

from fdrn_adapter import lazy

if TYPE_CHECKING:  # the same names for type checkers and editors; a test compares
    from fdrn_adapter.zoo.building import RITM_WHEELS as RITM_WHEELS
    from fdrn_adapter.zoo.building import NoCodeBaseError as NoCodeBaseError
    from fdrn_adapter.zoo.building import WeightsNotAvailableError as WeightsNotAvailableError
    from fdrn_adapter.zoo.building import build as build
    from fdrn_adapter.zoo.building import codebase_for as codebase_for
    from fdrn_adapter.zoo.building import find_package as find_package
    from fdrn_adapter.zoo.building import load as load
    from fdrn_adapter.zoo.building import serves as serves
    from fdrn_adapter.zoo.building import stock_network as stock_network
    from fdrn_adapter.zoo.entries import Figures as Figures
    from fdrn_adapter.zoo.entries import ZooEntry as ZooEntry
    from fdrn_adapter.zoo.entries import folder as folder
    from fdrn_adapter.zoo.entries import info as info
    from fdrn_adapter.zoo.entries import names as names
    from fdrn_adapter.zoo.entries import paper_names as paper_names

__getattr__, __dir__, __all__ = lazy.face(__name__, {
    "building": (
        "RITM_WHEELS", "NoCodeBaseError", "WeightsNotAvailableError", "build", "codebase_for",
        "find_package", "load", "serves", "stock_network",
    ),
    "entries": ("Figures", "ZooEntry", "folder", "info", "names", "paper_names"),
})
