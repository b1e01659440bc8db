"""Evaluation data sets: the stock layouts, medical ones, and any folder of images and masks."""

from fdrn_adapter.evaluation.datasets.catalogue import (
    FOLDER,
    LAYOUTS,
    Dataset,
    layouts,
    names,
    open_dataset,
    split_spec,
    split_specs,
)
from fdrn_adapter.evaluation.datasets.layout import Item, Layout, Read
from fdrn_adapter.evaluation.datasets.sample import BadSampleError, Sample

__all__ = [
    "FOLDER",
    "LAYOUTS",
    "BadSampleError",
    "Dataset",
    "Item",
    "Layout",
    "Read",
    "Sample",
    "layouts",
    "names",
    "open_dataset",
    "split_spec",
    "split_specs",
]
