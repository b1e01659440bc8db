"""Training without a GPU, and several processes started by torchrun.

`init_experiment` hard-codes CUDA devices and the nccl backend and takes the local rank from
`--local_rank`, which torchrun does not pass any more. Where the run asks for the CPU, the module
sees a `torch` that answers these few calls for the CPU; the stock function itself runs as it is.
"""

import functools
import os
from types import ModuleType

import torch
from fdrn_adapter.patches import options
from fdrn_adapter.patches.framework import EVERYWHERE, Patch
from fdrn_adapter.patches.shadow import NamespaceView, require, shadow


class LocalRank(Patch):
    name = "local_rank"
    targets = ("isegm.utils.exp",)
    code_bases = EVERYWHERE
    reason = "all processes would believe to be rank 0 and write the same files"
    since = "torch 1.9 (torchrun passes LOCAL_RANK in the environment, not --local_rank)"

    def apply(self, module: ModuleType) -> str | None:
        stock = require(module, "init_experiment")

        @functools.wraps(stock)
        def init_experiment(args, model_name):
            rank = os.environ.get("LOCAL_RANK")
            if rank is not None and not getattr(args, "local_rank", 0):
                args.local_rank = int(rank)
            return stock(args, model_name)

        module.init_experiment = init_experiment
        return None


def cpu_device(*args, **kwargs) -> torch.device:
    """torch.device, but "cuda..." means the CPU."""
    device = torch.device(*args, **kwargs)
    return torch.device("cpu") if device.type == "cuda" else device


def init_gloo(backend: str | None = None, **kwargs) -> None:
    """torch.distributed.init_process_group over gloo where nccl was asked for."""
    backend = "gloo" if backend in (None, "nccl") else backend
    torch.distributed.init_process_group(backend=backend, **kwargs)


class CpuExperiment(Patch):
    name = "cpu_experiment"
    targets = ("isegm.utils.exp",)
    code_bases = EVERYWHERE
    reason = "init_experiment insists on CUDA devices and nccl"
    since = "always; an extension point for --cpu"

    def apply(self, module: ModuleType) -> str | None:
        stock = require(module, "init_experiment")
        require(module, "torch")

        @functools.wraps(stock)
        def init_experiment(args, model_name):
            if not options.current.cpu:
                return stock(args, model_name)
            if getattr(args, "ngpus", 1) > 1 or "," in getattr(args, "gpus", ""):
                raise ValueError(
                    f"Got --ngpus {args.ngpus} --gpus {args.gpus!r} for a run on the CPU. Leave "
                    "both out; several CPU processes are started by torchrun."
                )
            return stock(args, model_name)

        module.init_experiment = init_experiment
        if options.current.cpu:
            cuda = NamespaceView(torch.cuda, {"set_device": lambda device: None})
            distributed = NamespaceView(torch.distributed, {"init_process_group": init_gloo})
            shadow(module, "torch", device=cpu_device, cuda=cuda, distributed=distributed)
            return "devices are the CPU, the backend is gloo"
        return "stands by for --cpu"


class CpuParallel(Patch):
    name = "cpu_parallel"
    targets = ("isegm.utils.distributed",)
    code_bases = EVERYWHERE
    reason = "DistributedDataParallel is given GPU ids, which it refuses for a module on the CPU"
    since = "always; an extension point for --cpu"

    def apply(self, module: ModuleType) -> str | None:
        stock = require(module, "get_dp_wrapper")

        @functools.wraps(stock)
        def get_dp_wrapper(distributed):
            wrapper = stock(distributed)
            if not options.current.cpu:
                return wrapper

            class CPUWrapper(wrapper):
                def __init__(self, net, device_ids=None, output_device=None, **kwargs):
                    super().__init__(net, **kwargs)

            return CPUWrapper

        module.get_dp_wrapper = get_dp_wrapper
        return None


class PinMemory(Patch):
    name = "pin_memory"
    targets = (
        "isegm.engine.trainer",
        "isegm.engine.baseline_trainer",
        "isegm.engine.cdnet_trainer",
        "isegm.engine.focalclick_trainer",
    )
    code_bases = EVERYWHERE
    reason = "the loaders pin memory, which warns and does nothing without a GPU"
    since = "torch 1.13 warns"

    def needed(self) -> tuple[bool, str]:
        if torch.cuda.is_available():
            return False, "there is a GPU to pin memory for"
        return True, "there is no GPU to pin memory for"

    def apply(self, module: ModuleType) -> str | None:
        stock = require(module, "DataLoader")

        @functools.wraps(stock)
        def make_loader(*args, **kwargs):
            kwargs["pin_memory"] = False
            return stock(*args, **kwargs)

        module.DataLoader = make_loader
        return None


PATCHES = (LocalRank(), CpuExperiment(), CpuParallel(), PinMemory())
