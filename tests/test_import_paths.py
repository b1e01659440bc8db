"""Import paths that checkpoints, experiment files and other people's code were written against."""

import importlib

import pytest

PATHS = {
    "model": ["FDRNModel"],
    "features": ["DeferredRecycling", "ImageFeatures", "Recycling", "recycle"],
    "session": ["InteractiveSession", "SessionClick"],
    "zoo": ["NoCodeBaseError", "WeightsNotAvailableError", "ZooEntry", "build", "codebase_for",
            "find_package", "folder", "info", "load", "names", "paper_names", "serves",
            "stock_network"],
    "engines": ["AcceleratedModel", "EngineNotInstalledError", "accelerate", "available", "beside",
                "names", "resolve", "runner_of"],
    "export": ["EXAMPLE", "PRECISIONS", "export"],
    "hosts": ["HOST_PACKAGES", "HostInfo", "UnsupportedHostError", "build_host", "describe_host"],
    "training": ["DynamicScaleDataset", "dynamic_scale_trainer", "hold_host"],
    "evaluation.datasets": ["Dataset", "Item", "Layout", "open_dataset"],
}


@pytest.mark.parametrize("path", PATHS)
def test_names_stay_where_they_were(path):
    face = importlib.import_module(f"fdrn_adapter.{path}")
    assert set(PATHS[path]) <= set(face.__all__)
    assert [name for name in face.__all__ if not hasattr(face, name)] == []
