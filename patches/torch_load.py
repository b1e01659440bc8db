"""Checkpoints of other years and other machines.

Stock code calls `torch.load(path)` and means the behaviour of its time. Two things are different
now: a file is read with `weights_only=True`, which refuses NumPy scalars and EasyDict entries
that older checkpoints carry in their config, and a checkpoint that was saved on another GPU than
cuda:0 finds no such device on a machine with fewer GPUs or none. Harmless types are allowed one
by one. Anything else stays refused, because unpickling runs code; `--trust-checkpoints` is the
user's own decision.
"""

import collections
import pickle
from types import ModuleType
from typing import Any

import numpy as np
import torch
from fdrn_adapter.patches import options
from fdrn_adapter.patches.framework import EVERYWHERE, Patch
from fdrn_adapter.patches.shadow import require, shadow

TARGETS = (
    "isegm.inference.utils",
    "isegm.engine.trainer",
    "isegm.engine.baseline_trainer",
    "isegm.engine.cdnet_trainer",
    "isegm.engine.focalclick_trainer",
    "isegm.model.is_model",
    "isegm.model.modeling.hrnet_ocr",
    "isegm.model.modeling.segformer.segformer_model",
    "isegm.model.modeling.mobilenet.segmentator",
    "isegm.model.modeling.ppclnet.segmentator",
    "isegm.model.modeling.efficientnet.segmentator",
)


def harmless_types() -> list[Any]:
    """Types without side effects that stock checkpoints are known to hold."""
    types: list[Any] = [collections.OrderedDict, collections.defaultdict, np.dtype, np.ndarray]
    core = getattr(np, "_core", None) or np.core
    types += [core.multiarray.scalar, core.multiarray._reconstruct]
    # A file from NumPy 1 names numpy.core, one from NumPy 2 numpy._core.
    types += [(core.multiarray.scalar, "numpy.core.multiarray.scalar"),
              (core.multiarray._reconstruct, "numpy.core.multiarray._reconstruct")]
    types += [type(np.dtype(code)) for code in "?bBhHiIlLqQefd"]
    # torch fills no dict subclass but OrderedDict; its attributes are those of the EasyDict.
    types.append((collections.OrderedDict, "easydict.EasyDict"))
    return types


def load(f: Any, map_location: Any = None, **kwargs: Any) -> Any:
    """torch.load as the stock code means it.

    Raises:
        RuntimeError: the file holds pickled objects that could run code.
    """
    if not torch.cuda.is_available():
        map_location = "cpu"
    if options.current.trust_checkpoints:
        kwargs.setdefault("weights_only", False)
    try:
        with torch.serialization.safe_globals(harmless_types()):
            return torch.load(f, map_location=map_location, **kwargs)
    except pickle.UnpicklingError as error:
        raise RuntimeError(
            f"{f} holds pickled objects besides tensors and plain values, and unpickling them can "
            "run any code. If you trust where the file comes from, pass --trust-checkpoints to "
            f"fdrn run. torch says: {str(error).splitlines()[0]}"
        ) from error


class TorchLoad(Patch):
    name = "torch_load"
    targets = TARGETS
    code_bases = EVERYWHERE
    reason = "older checkpoints hold values that torch.load refuses, or name a GPU that is missing"
    since = "torch 2.6 (weights_only=True by default)"

    def apply(self, module: ModuleType) -> str | None:
        require(module, "torch")
        shadow(module, "torch", load=load)
        return None


PATCHES = (TorchLoad(),)
