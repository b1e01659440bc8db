"""Stock networks built from what their checkpoints say."""

import importlib
import logging
from typing import Any

from torch import nn

from fdrn_adapter.errors import CheckpointError

logger = logging.getLogger(__name__)

# Packages that carry the stock classes under the same sub-paths, in the order they are tried.
HOST_PACKAGES = ("isegm", "ritm_annotation")


def build_host(config: dict[str, Any], **kwargs: Any) -> nn.Module:
    """Build a stock network from the `_config` that the stock code stores in checkpoints.

    The package named in the config is tried first, then its siblings that carry the same class: a
    RITM checkpoint opens with ritm-annotation installed and the other way round.

    Args:
        config: {"class": dotted name, "params": {...}} as written by the stock `serialize`.
        **kwargs: overrides, such as cpu_dist_maps=True.

    Raises:
        CheckpointError: no installed package has the class.
    """
    root, _, path = config["class"].partition(".")
    packages = [root, *(name for name in HOST_PACKAGES if name != root)]
    tried = []
    for package in packages:
        module_path, _, class_name = f"{package}.{path}".rpartition(".")
        try:
            getattr(importlib.import_module(module_path), class_name)
            serialization = importlib.import_module(f"{package}.utils.serialization")
        except (ImportError, AttributeError) as error:
            tried.append(f"{package} ({error})")
            continue
        if package != root:
            logger.info("%s is built with the package %s", config["class"], package)
        return serialization.load_model(_renamed(config, root, package), **kwargs)
    raise CheckpointError(
        f"The network class {config['class']} cannot be imported: tried {'; '.join(tried)}. "
        "Install it with `pip install fdrn_adapter[ritm]` or make a checkout importable "
        "(`--codebase DIR`, or fdrn_adapter.codebase.activate(DIR))."
    )


def _renamed(config: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """The config with its class names moved from one package to its sibling."""
    if old == new:
        return config

    def move(name: str) -> str:
        return new + name[len(old) :] if name.startswith(old + ".") else name

    params = {
        key: {**param, "value": move(param["value"])} if param["type"] == "class" else param
        for key, param in config["params"].items()
    }
    return {"class": move(config["class"]), "params": params}
