"""What an interrupted training needs to go on as if nothing had happened."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from fdrn_adapter import schemas
from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.weight_files import read_file, write_whole

NAME = "training_state.pth"
_FORMAT = "fdrn_adapter.training/1"


class MovingAverage:
    """Exponential moving average of a network's weights; buffers are taken as they are.

    Args:
        net: the network that is trained.
        decay: share of the old average kept at a step; lower during the first steps, when there is
            nothing worth keeping.
    """

    def __init__(self, net: nn.Module, decay: float):
        if not 0 < decay < 1:
            raise ValueError(f"ema_decay should be between 0 and 1, got {decay!r}.")
        self.net, self.decay, self.steps = net, decay, 0
        self.weights = {k: v.detach().clone() for k, v in net.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's present weights in."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        trained = {name for name, p in self.net.named_parameters() if p.requires_grad}
        for name, value in self.net.state_dict().items():
            if name in trained:
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)


def write(path: Path, **parts: Any) -> None:
    """Write a training state; a crash while writing costs nothing."""
    write_whole(path, {"format": _FORMAT, **parts})


def read(path: Path) -> dict[str, Any]:
    """Read a training state; no code in it is run.

    Raises:
        CheckpointError: it is not one, or holds something else than it should.
    """
    stored = read_file(path, "cpu")
    if not isinstance(stored, dict) or stored.pop("format", None) != _FORMAT:
        raise CheckpointError(
            f"{path} is no training state of fdrn_adapter; delete it to start anew from the "
            "weights beside it."
        )
    return schemas.require(stored, str(path), _SCHEMA, _OPTIONAL)


def optimizer(value: Any) -> None:
    """Raise Unfit unless a value is the state of a torch optimizer."""
    if not isinstance(value, dict) or not isinstance(value.get("state"), dict) \
            or not isinstance(value.get("param_groups"), list):
        raise schemas.Unfit("a dict with 'state' and 'param_groups'")
    for entry in value["state"].values():
        tensors = {n: v for n, v in entry.items() if isinstance(v, torch.Tensor)} \
            if isinstance(entry, dict) else None
        if tensors is None or not all(schemas.finite(v) for v in tensors.values()):
            raise schemas.Unfit("a dict whose 'state' is finite")


def _average(value: Any) -> None:
    if not isinstance(value, dict) or value.keys() != {"steps", "weights"}:
        raise schemas.Unfit("a dict with 'steps' and 'weights'")
    schemas.whole()(value["steps"])
    schemas.tensors(value["weights"])


_SCHEMA = {"epoch": schemas.whole(), "weights": schemas.tensors, "optimizer": optimizer}
_OPTIONAL = {"schedule": schemas.mapping, "average": _average}
