"""Two calls of the stock trainers that current torch deprecates."""

import contextlib
import functools
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import torch
from fdrn_adapter.patches.framework import CLICKSEG, EVERYWHERE, Patch
from fdrn_adapter.patches.shadow import require

TRAINERS = (
    "isegm.engine.trainer",
    "isegm.engine.baseline_trainer",
    "isegm.engine.cdnet_trainer",
    "isegm.engine.focalclick_trainer",
)


class SchedulerView:
    """A learning rate scheduler whose get_lr() tells the rate that is in force.

    `get_lr()` outside `step()` computes the *next* rate: at a milestone it applies the decay once
    too often. The stock trainers log it as the current one.
    """

    def __init__(self, scheduler: Any):
        self._scheduler = scheduler

    def get_lr(self) -> list[float]:
        return self._scheduler.get_last_lr()

    def __getattr__(self, name: str) -> Any:
        if name == "_scheduler":  # not there yet while unpickling
            raise AttributeError(name)
        return getattr(self._scheduler, name)


class SchedulerRate(Patch):
    name = "scheduler_rate"
    targets = TRAINERS
    code_bases = EVERYWHERE
    reason = "the logged learning rate is decayed once too often at a milestone, with a warning"
    since = "torch 1.4 (get_last_lr)"

    def apply(self, module: ModuleType) -> str | None:
        trainer = require(module, "ISTrainer")
        stock = require(module, "ISTrainer", "__init__")

        @functools.wraps(stock)
        def __init__(self, *args, **kwargs):
            stock(self, *args, **kwargs)
            scheduler = getattr(self, "lr_scheduler", None)
            if hasattr(scheduler, "get_last_lr"):
                self.lr_scheduler = SchedulerView(scheduler)

        trainer.__init__ = __init__
        return None


@contextlib.contextmanager
def quiet_scaler() -> Iterator[None]:
    """Silence what torch says about a GradScaler that nobody uses."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*GradScaler.*")
        yield


class CudaAmp(Patch):
    name = "cuda_amp"
    targets = TRAINERS[1:]
    code_bases = (CLICKSEG,)
    reason = "each trainer module makes a CUDA GradScaler on import and never uses it"
    since = "torch 2.4 deprecates torch.cuda.amp.GradScaler"

    def needed(self) -> tuple[bool, str]:
        numbers = tuple(int(part) for part in torch.__version__.split(".")[:2])
        if numbers < (2, 4) and torch.cuda.is_available():
            return False, f"torch {torch.__version__} does not complain"
        return True, f"torch {torch.__version__} warns about it"

    def around(self, name: str) -> AbstractContextManager:
        return quiet_scaler()

    def apply(self, module: ModuleType) -> str | None:
        require(module, "GradScaler")
        return None


PATCHES = (SchedulerRate(), CudaAmp())
