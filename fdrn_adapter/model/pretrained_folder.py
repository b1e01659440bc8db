"""A network as a folder, config.json and model.safetensors, as model hubs keep them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.model import checkpoint
from fdrn_adapter.output_folders import checksum, together

CONFIG, WEIGHTS = "config.json", "model.safetensors"
FORMAT, VERSION = "fdrn_adapter", 1
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_LARGEST_CONFIG = 2**20  # bytes; real ones have some 5,000


def save_pretrained(model: nn.Module, folder: str | Path, half: bool = False) -> None:
    """Write a model as a folder: config.json, which names the network, and model.safetensors.

    How the network is to be used (`model.inference`) is in the config. Both files are replaced
    together, or none is.

    Args:
        model: an FDRN model, or a stock network.
        folder: made if needed; other files in it stay.
        half: store floating-point weights in half precision.

    Raises:
        ValueError: the model has no `_config` to be rebuilt from, or safetensors is not installed.
    """
    safe = _safetensors()
    weights, config = checkpoint.contents(model, half)
    with together(folder, CONFIG) as aside:
        # Tensors that share memory are refused by the format.
        safe.save_file({k: t.clone().contiguous() for k, t in weights.items()}, aside / WEIGHTS)
        about = {
            "format": FORMAT, "format_version": VERSION, "config": config,
            "weights": {"file": WEIGHTS, "sha256": checksum(aside / WEIGHTS)},
        }
        (aside / CONFIG).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def from_pretrained(
    source: str | Path, device: str | torch.device = "cpu", trust: Sequence[str] = (),
    revision: str | None = None,
) -> nn.Module:
    """Read what `save_pretrained` wrote, strictly; safe for folders of strangers, as `load` is.

    Args:
        source: the folder, or where there is none of that name, OWNER/NAME on the hub that
            huggingface_hub asks, if that is installed: two files are fetched, and nothing is run.
        device: where to put the model.
        trust: as for `load`.
        revision: of a hub's model: a branch, tag or commit.

    Returns:
        the model in eval mode.

    Raises:
        CheckpointError: files missing, of another kind, or not of one another; weights missing,
            foreign or misshapen.
        ValueError: neither a folder nor a name on a hub, or a package is not installed.
    """
    folder = Path(source) if Path(source).is_dir() else _fetched(str(source), revision)
    config, digest = _read_config(folder / CONFIG)
    weights = _read_weights(folder / WEIGHTS, digest)
    return checkpoint.rebuilt(config, weights, folder, trust=trust).to(device).eval()


def is_pretrained(folder: str | Path) -> bool:
    """Whether a folder looks like one that `save_pretrained` wrote."""
    return (Path(folder) / CONFIG).is_file() and (Path(folder) / WEIGHTS).is_file()


def _read_config(path: Path) -> tuple[dict[str, Any], str]:
    """The network's config, and the sha256 of its weights."""
    if not path.is_file():
        raise CheckpointError(f"There is no {path}: not a folder of save_pretrained.")
    if path.stat().st_size > _LARGEST_CONFIG:
        raise CheckpointError(f"{path} has more than {_LARGEST_CONFIG} bytes, and was not read.")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not of fdrn_adapter: expected \"format\": \"{FORMAT}\", got "
            f"{str(about.get('format') if isinstance(about, dict) else type(about).__name__)[:80]}."
        )
    if about.get("format_version") != VERSION:
        raise CheckpointError(
            f"{path} is of format {str(about.get('format_version'))[:20]}, this version reads "
            f"{VERSION}: update fdrn_adapter."
        )
    weights = about.get("weights")
    digest = weights.get("sha256") if isinstance(weights, dict) else None
    if not isinstance(digest, str) or not isinstance(about.get("config"), dict):
        raise CheckpointError(f"{path} lacks \"config\" or the sha256 of \"weights\".")
    return about["config"], digest


def _read_weights(path: Path, digest: str) -> dict[str, Tensor]:
    safe = _safetensors()
    if not path.is_file():
        raise CheckpointError(f"There is no {path}: not a folder of save_pretrained.")
    if (found := checksum(path)) != digest:
        raise CheckpointError(
            f"{path} does not belong to the {CONFIG} beside it: its sha256 is {found[:12]}..., "
            f"recorded is {digest[:12]}... Copy or save both files again."
        )
    try:
        return safe.load_file(path)
    except Exception as error:  # of damaged files whatever its reader meets
        raise CheckpointError(f"{path} is no whole safetensors file: {error}") from error


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ValueError(
            "Folders of save_pretrained need safetensors, which is not installed: pip install "
            "'fdrn_adapter[hub]'. Single files need nothing more: fdrn_adapter.save and load."
        ) from error
    return safetensors.torch


def _fetched(source: str, revision: str | None) -> Path:
    """Both files of a model on a hub, where huggingface_hub keeps them."""
    if not _HUB_ID.fullmatch(source):
        raise ValueError(
            f"There is no folder {source}, and it is no OWNER/NAME of a hub. A single file is "
            "read by fdrn_adapter.load."
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ValueError(
            f"There is no folder {source}. To fetch it from a hub: pip install 'fdrn_adapter[hub]'."
        ) from error
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:  # of the net whatever huggingface_hub meets
        raise ValueError(
            f"There is no folder {source}, and the hub did not give it: "
            f"{str(error).strip().splitlines()[0] if str(error).strip() else repr(error)}"
        ) from error
