"""The variants of the paper's Table 2 and networks trained here, by name."""

from fdrn_adapter import lazy

__getattr__, __dir__, __all__ = lazy.face(__name__, {
    "building": (
        "RITM_WHEELS", "NoCodeBaseError", "WeightsNotAvailableError", "build", "codebase_for",
        "find_package", "load", "serves", "stock_network",
    ),
    "entries": ("Figures", "ZooEntry", "folder", "info", "names", "paper_names"),
})
