"""The real GrabCut, for tests that need photographs."""

import os

import pytest

from fdrn_adapter.evaluation.datasets.catalogue import open_dataset


def grabcut_samples() -> list:
    """All samples of the folder in FDRN_GRABCUT_ROOT; a visible skip where it is not set."""
    root = os.environ.get("FDRN_GRABCUT_ROOT")
    if not root:
        pytest.skip("set FDRN_GRABCUT_ROOT to a folder with data_GT and boundary_GT")
    dataset = open_dataset(f"GrabCut={root}")
    return [dataset.load(i) for i in range(len(dataset))]
