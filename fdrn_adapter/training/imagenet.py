"""ImageNet weights for hosts and image encoders, from the files that the stock cfg names."""

from pathlib import Path
from typing import Any

from torch import nn

SECTION = "IMAGENET_PRETRAINED_MODELS"  # of the stock config.yml
_ENCODERS = {
    "hrnet18": "HRNETV2_W18",
    "hrnet18s": "HRNETV2_W18_SMALL",
    "segformer_b0": "SEGFORMER_B0",
    "segformer_b1": "SEGFORMER_B1",
}


def host_entry(params: dict[str, Any]) -> str:
    """The stock name of a host's ImageNet weights, from the arguments of its class."""
    if "model_version" in params:
        return f"SEGFORMER_{params['model_version'].upper()}"
    return f"HRNETV2_W{params['width']}" + "_SMALL" * bool(params.get("small"))


def encoder_entry(encoder: str) -> str:
    """The stock name of an image encoder's ImageNet weights.

    Raises:
        ValueError: the stock code has none for it.
    """
    if encoder not in _ENCODERS:
        raise ValueError(f"No ImageNet weights are known for {encoder!r}; known: {[*_ENCODERS]}.")
    return _ENCODERS[encoder]


def wanted(cfg: Any) -> bool:
    """Whether training starts from ImageNet weights; not with `--set PRETRAINED=none`.

    Raises:
        ValueError: PRETRAINED is something else.
    """
    value = str(cfg.get("PRETRAINED", "imagenet")).lower()
    if value not in ("imagenet", "none"):
        raise ValueError(f"PRETRAINED should be imagenet or none, got {value!r}.")
    return value == "imagenet"


def weights_file(cfg: Any, entry: str, whose: str) -> str:
    """The file that cfg names for an entry.

    Args:
        cfg: of the stock train.py.
        entry: from `host_entry` or `encoder_entry`.
        whose: for the message.

    Raises:
        ValueError: cfg has no such entry, or there is no such file.
    """
    path = cfg.get(SECTION, {}).get(entry)
    remedy = (
        f"--set {SECTION}.{entry}=FILE names it, --set PRETRAINED=none starts at random (for tests)"
    )
    if not path:
        raise ValueError(
            f"{whose} starts from ImageNet weights, and cfg has no {SECTION}.{entry}: {remedy}."
        )
    if not Path(path).is_file():
        raise ValueError(
            f"{whose} starts from ImageNet weights, and {path} ({SECTION}.{entry}) is not a file: "
            f"{remedy}."
        )
    return str(path)


def start_host(host: nn.Module, cfg: Any, params: dict[str, Any], whose: str) -> None:
    """Initialise a fresh host as the stock experiments do. Works in place.

    HRNets: Xavier everywhere (the stock initializer), then ImageNet weights over the backbone.
    SegFormers initialise themselves.

    Raises:
        ValueError: see `weights_file`.
    """
    if "model_version" not in params:
        import importlib

        package = type(host).__module__.partition(".")[0]
        initializer = importlib.import_module(f"{package}.model.initializer")
        host.apply(initializer.XavierGluon(rnd_type="gaussian", magnitude=2.0))
    if wanted(cfg):
        path = weights_file(cfg, host_entry(params), f"The host of {whose}")
        host.feature_extractor.load_pretrained_weights(path)


def encoder_weights(cfg: Any, encoder: str, host_entry_name: str, whose: str) -> str | None:
    """What `wrap(encoder_weights=...)` should start F1 from.

    Returns:
        a file, or None where F1 shares the host's weights (same network) or starts at random.

    Raises:
        ValueError: see `weights_file`.
    """
    entry = encoder_entry(encoder)
    if entry == host_entry_name or not wanted(cfg):
        return None
    return weights_file(cfg, entry, f"The image encoder ({encoder}) of {whose}")
