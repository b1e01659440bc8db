"""Checkpoints: the stock layout, read without running code, loaded strictly."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.hosts.stock import build_host
from fdrn_adapter.model.network import FDRNModel
from fdrn_adapter.weight_files import read_file, write_whole
from fdrn_adapter.weights import copy_network

_FDRN_CLASS = "fdrn_adapter.model.FDRNModel"


def save(model: nn.Module, path: str | Path, half: bool = False) -> None:
    """Write a model in the stock layout {"state_dict", "config"}; the stock scripts read it too.

    Args:
        model: an FDRN model, or a stock network.
        path: file to write; its folder must exist.
        half: store floating-point weights in half precision.

    Raises:
        ValueError: the model has no `_config` to be rebuilt from.
    """
    config = getattr(model, "_config", None)
    if not isinstance(config, dict):
        raise ValueError(
            f"{type(model).__name__} has no `_config`, so a checkpoint could not be rebuilt. Save "
            "an FDRN model or a stock network of RITM, ritm-annotation or ClickSEG."
        )
    weights = {
        name: (t.half() if half and t.is_floating_point() else t).detach().cpu()
        for name, t in model.state_dict().items()
    }
    write_checkpoint(Path(path), weights, config)


def write_checkpoint(path: Path, weights: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write weights and config in the stock layout."""
    write_whole(path, {"state_dict": weights, "config": config})


def load(
    path: str | Path, host: nn.Module | None = None, device: str | torch.device = "cpu"
) -> nn.Module:
    """Read a checkpoint of an FDRN model or of a stock network, strictly.

    Args:
        path: file written by `save` or by the stock trainer.
        host: build the FDRN around this stock network (deep-copied) instead of the one described
            in the file.
        device: where to put the model.

    Returns:
        the model in eval mode.

    Raises:
        CheckpointError: not a checkpoint, truncated, with pickled code, or with missing, foreign
            or misshapen weights; the message names them.
    """
    stored = read_file(path, "cpu")
    if not isinstance(stored, dict) or not {"state_dict", "config"} <= stored.keys():
        keys = sorted(map(str, stored))[:5] if isinstance(stored, dict) else type(stored).__name__
        raise CheckpointError(
            f"{path} is not a checkpoint of this kind: expected a dict with 'state_dict' and "
            f"'config', got {keys}. Bare weights of a backbone go to wrap(encoder_weights=...)."
        )
    model = _build(stored["config"], host, path)
    load_weights(model, stored["state_dict"], str(path))
    return model.to(device).eval()


def _build(config: Any, host: nn.Module | None, path: str | Path) -> nn.Module:
    try:
        name, params = config["class"], config["params"]
        values = {key: param["value"] for key, param in params.items()}
    except (TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path}: the config is not the one that FDRN or stock checkpoints carry ({error!r})."
        ) from error
    if name != _FDRN_CLASS and host is not None:
            raise CheckpointError(
                f"{path} holds a stock network ({name}), and host= was given. Load it without "
                "host, or wrap(host) and load an FDRN checkpoint."
            )
    if host is not None:
        values["host"] = copy_network(host)
    try:
        return FDRNModel(**values) if name == _FDRN_CLASS else build_host(config)
    # The stock code asserts that it knows every option of the network.
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: the model it describes cannot be built: {error or repr(error)}"
        ) from error


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a model; all of them and nothing else.

    Raises:
        CheckpointError: names missing, foreign and misshapen entries; the model is unchanged.
    """
    ours = model.state_dict()
    missing = [k for k in ours if k not in state_dict]
    foreign = [k for k in state_dict if k not in ours]
    wrong = [
        f"{k}: {tuple(state_dict[k].shape)} in the file, {tuple(v.shape)} in the model"
        for k, v in ours.items()
        if k in state_dict and state_dict[k].shape != v.shape
    ]
    if missing or foreign or wrong:
        raise CheckpointError(
            f"{source} does not fit {_describe(model)}.\n"
            + _list("missing in the file", missing)
            + _list("not in the model", foreign)
            + _list("of another shape", wrong)
            + "Load it with the variant and the host width it was saved from."
        )
    model.load_state_dict(state_dict, strict=True)


def _describe(model: nn.Module) -> str:
    info = getattr(model, "info", None)
    return f"an FDRN of {info.name}" if info is not None else f"a {type(model).__name__}"


def _list(title: str, items: list[str], most: int = 6) -> str:
    if not items:
        return ""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return f"  {len(items)} {title}: " + ", ".join(items[:most]) + more + "\n"


