"""Checkpoints: the stock layout, read without running code, loaded strictly."""

import inspect
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fdrn_adapter import schemas, trusted
from fdrn_adapter.encoders.catalogue import check_stored
from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.hosts.stock import build_host
from fdrn_adapter.model.network import FDRNModel
from fdrn_adapter.weight_files import read_file, write_whole
from fdrn_adapter.weights import copy_network

logger = logging.getLogger(__name__)

_FDRN_CLASS = "fdrn_adapter.model.FDRNModel"
_SCHEMA = {"state_dict": schemas.tensors, "config": schemas.mapping}
# What DistributedDataParallel and torch.compile put before every name.
_WRAPPERS = ("module.", "_orig_mod.")
_MOST_CHANNELS = 4096


def save(model: nn.Module, path: str | Path, half: bool = False) -> None:
    """Write a model in the stock layout {"state_dict", "config"}; the stock scripts read it too.

    Args:
        model: an FDRN model, or a stock network.
        path: file to write; its folder must exist.
        half: store floating-point weights in half precision.

    Raises:
        ValueError: the model has no `_config` to be rebuilt from.
    """
    write_checkpoint(Path(path), *contents(model, half))


def contents(model: nn.Module, half: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A model's weights, on the CPU, and the config that it is rebuilt from; see `save`."""
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
    return weights, config


def write_checkpoint(path: Path, weights: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write weights and config in the stock layout."""
    write_whole(path, {"state_dict": weights, "config": config})


def load(
    path: str | Path, host: nn.Module | None = None, device: str | torch.device = "cpu",
    trust: Sequence[str] = (),
) -> nn.Module:
    """Read a checkpoint of an FDRN model or of a stock network, strictly.

    Safe for files of strangers: nothing in them is run, and they choose among networks of RITM,
    ritm-annotation and ClickSEG only (see SECURITY.md).

    Args:
        path: file written by `save` or by the stock trainer.
        host: build the FDRN around this stock network (deep-copied) instead of the one described
            in the file.
        device: where to put the model.
        trust: top-level packages, of forks, whose networks the file may name besides.

    Returns:
        the model in eval mode.

    Raises:
        CheckpointError: not a checkpoint, truncated, with pickled code, or with missing, foreign
            or misshapen weights; the message names them.
    """
    stored = read_file(path, "cpu")
    if not isinstance(stored, dict) or not {"state_dict", "config"} <= stored.keys():
        raise CheckpointError(_other_kind(path, stored))
    # Trainers keep further entries there, which are of no use here.
    stored = schemas.require({name: stored[name] for name in _SCHEMA}, str(path), _SCHEMA)
    model = rebuilt(stored["config"], stored["state_dict"], path, host, trust)
    return model.to(device).eval()


def rebuilt(
    config: dict[str, Any], state_dict: Mapping[str, Tensor], source: str | Path,
    host: nn.Module | None = None, trust: Sequence[str] = (),
) -> nn.Module:
    """The network that a config describes, with its weights, strictly; nothing in it is trusted.

    Args:
        config: as `save` writes it.
        state_dict: all of its weights.
        source: for messages.
        host, trust: as for `load`.

    Raises:
        CheckpointError: as `load`.
    """
    weights = unwrapped(state_dict)
    model = _build(config, host, source, weights, trust)
    load_weights(model, weights, str(source))
    return model


def unwrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights without the prefix that all names got by DistributedDataParallel or torch.compile."""
    weights = dict(weights)
    for prefix in _WRAPPERS * 2:  # either may be around the other
        if weights and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _other_kind(path: str | Path, stored: Any) -> str:
    if isinstance(stored, Mapping) and stored and all(
        isinstance(v, Tensor) for v in stored.values()
    ):
        return (
            f"{path} holds bare weights ({len(stored)} tensors, the first is {next(iter(stored))}) "
            "and not which network they are of; a checkpoint is a dict with 'state_dict' and "
            "'config'. Build the network, load them with net.load_state_dict(...) and write a "
            "checkpoint with fdrn_adapter.save(net, path). Weights of an image encoder alone go to "
            "wrap(encoder_weights=...), or --encoder-weights of `fdrn wrap`."
        )
    keys = sorted(map(str, stored))[:5] if isinstance(stored, dict) else type(stored).__name__
    return (
        f"{path} is not a checkpoint of this kind: expected a dict with 'state_dict' and "
        f"'config', got {keys}."
    )


def _build(
    config: dict[str, Any], host: nn.Module | None, path: str | Path, weights: dict[str, Tensor],
    trust: Sequence[str],
) -> nn.Module:
    allowed = trusted.packages_of(trust)  # outside: not the file's fault
    try:
        trusted.check_config(config)
        if config["class"] != _FDRN_CLASS:
            if host is not None:
                raise CheckpointError(
                    f"it holds a stock network ({config['class']}), and host= was given. Load it "
                    "without host, or wrap(host) and load an FDRN checkpoint."
                )
            return _stock(config, weights, allowed)
        return FDRNModel(**_fdrn_arguments(config, host, weights, allowed))
    # The stock code asserts that it knows every option of the network.
    except (
        CheckpointError, AssertionError, KeyError, TypeError, ValueError, AttributeError,
        RuntimeError,
    ) as error:
        raise CheckpointError(
            f"{path}: the model it describes cannot be built: {str(error) or repr(error)}"
        ) from error


def _stock(config: Any, weights: dict[str, Tensor], allowed: Sequence[str]) -> nn.Module:
    trusted.check_config(config)
    trusted.check_width(config, weights, lambda: build_host(config, allowed))
    return build_host(config, allowed)


def _fdrn_arguments(
    config: dict[str, Any], host: nn.Module | None, weights: dict[str, Tensor],
    allowed: Sequence[str],
) -> dict[str, Any]:
    values = {name: param["value"] for name, param in config["params"].items()}
    known = [
        name for name, p in inspect.signature(FDRNModel).parameters.items()
        if p.kind is not p.VAR_KEYWORD
    ]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise CheckpointError(
            f"it has settings that this version does not know ({', '.join(unknown)}): update "
            "fdrn_adapter."
        )
    check_stored(values.get("encoder"))
    for name in ("context_channels", "value_channels"):
        channels = values.get(name)
        if isinstance(channels, int) and channels > _MOST_CHANNELS:
            raise CheckpointError(f"{name} is at most {_MOST_CHANNELS}, got {channels}.")
    values["host"] = copy_network(host) if host is not None else _stock(
        values.get("host"), weights, allowed
    )
    return values


def load_weights(model: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    """Copy weights into a model; all of them and nothing else.

    Raises:
        CheckpointError: names missing, foreign and misshapen entries; the model is unchanged.
    """
    ours = model.state_dict()
    state_dict = unwrapped(state_dict)
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


def load_weights_beside(
    model: nn.Module, state_dict: Mapping[str, Tensor], prefix: str, source: str | Path
) -> None:
    """Copy all weights but those under a prefix, which the model keeps, strictly.

    Raises:
        CheckpointError: as `load_weights`.
    """
    own = {k: v for k, v in model.state_dict().items() if k.startswith(prefix)}
    others = {k: v for k, v in state_dict.items() if not k.startswith(prefix)}
    load_weights(model, {**others, **own}, str(source))


def _describe(model: nn.Module) -> str:
    return f"an FDRN of {model.info.name}" if isinstance(model, FDRNModel) else \
        f"a {type(model).__name__}"


def _list(title: str, items: list[str], most: int = 6) -> str:
    if not items:
        return ""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return f"  {len(items)} {title}: " + ", ".join(items[:most]) + more + "\n"


