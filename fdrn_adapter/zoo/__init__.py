"""The variants of the paper's Table 2 and networks trained here, by name."""

from fdrn_adapter.zoo.building import (
    RITM_WHEELS,
    NoCodeBaseError,
    WeightsNotAvailableError,
    build,
    codebase_for,
    find_package,
    load,
    serves,
    stock_network,
)
from fdrn_adapter.zoo.entries import Figures, ZooEntry, folder, info, names, paper_names

__all__ = [
    "RITM_WHEELS",
    "Figures",
    "NoCodeBaseError",
    "WeightsNotAvailableError",
    "ZooEntry",
    "build",
    "codebase_for",
    "find_package",
    "folder",
    "info",
    "load",
    "names",
    "paper_names",
    "serves",
    "stock_network",
]
