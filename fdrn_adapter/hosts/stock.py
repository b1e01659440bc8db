"""Stock networks built from what their checkpoints say."""

import importlib
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from fdrn_adapter import trusted
from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.trusted import HOST_PACKAGES

logger = logging.getLogger(__name__)


def stock_hrnet(package: str) -> type[nn.Module]:
    """The class of a code base's HRNets, without the network around them."""
    return importlib.import_module(f"{package}.model.modeling.hrnet_ocr").HighResolutionNet


def stock_segformer(
    package: str, class_name: str, backbone: nn.Module | None = None
) -> type[nn.Module]:
    """A class of a code base's SegFormers, without the network around them.

    Args:
        package: of the code base.
        class_name: of the variant.
        backbone: one of another variant, beside which the class is found.

    Raises:
        LookupError: the code base has no SegFormer.
    """
    path = f"{package}.model.modeling.segformer.mix_transformer"
    if backbone is not None:
        path = type(backbone).__module__
    try:
        return getattr(importlib.import_module(path), class_name)
    except ModuleNotFoundError as error:
        if not path.startswith(error.name or "?"):  # a library that SegFormer needs
            raise
        raise LookupError(f"{package} has no module {path}") from error


def build_host(config: dict[str, Any], trust: Sequence[str] = (), **kwargs: Any) -> nn.Module:
    """Build a stock network from the `_config` that the stock code stores in checkpoints.

    The package named in the config is tried first, then its siblings that carry the same class: a
    RITM checkpoint opens with ritm-annotation installed and the other way round. Only networks of
    known packages are built, see `trusted`.

    Args:
        config: {"class": dotted name, "params": {...}} as written by the stock `serialize`.
        trust: further packages whose networks may be built.
        **kwargs: overrides, such as cpu_dist_maps=True.

    Raises:
        CheckpointError: no installed package has the class, or it is of a package that is not
            known.
    """
    trusted.check_config(config)
    allowed = trusted.packages_of(trust)
    root, _, path = config["class"].partition(".")
    if root not in allowed and (trusted.installed(root) or not path.startswith("model.")):
        raise CheckpointError(trusted.refusal(config["class"]))
    packages = [root, *(name for name in HOST_PACKAGES if name != root)]
    tried = []
    for package in packages:
        if package not in allowed:  # a fork that is not here: its siblings may serve
            tried.append(f"{package} (not installed)")
            continue
        moved = _renamed(config, root, package)
        try:
            network = trusted.network_class(moved["class"], allowed)
            load_model = _loader_of(package)
            layers = _layers(moved, allowed)
        except (ImportError, AttributeError) as error:
            tried.append(f"{package} ({error})")
            continue
        if package != root:
            logger.info("%s is built with the package %s", config["class"], package)
        if load_model is not None:
            with trusted.granting(allowed):
                return load_model(moved, **kwargs)
        takes = inspect.signature(network).parameters
        given = {
            name: layers.get(name, param["value"]) for name, param in moved["params"].items()
            if name in takes or param["specified"]  # the config has defaults of base classes too
        }
        return network(**{**given, **kwargs})
    raise CheckpointError(
        f"The network class {config['class']} cannot be imported: tried {'; '.join(tried)}. "
        "Install it with `pip install fdrn_adapter[ritm]` or make a checkout importable "
        "(`--codebase DIR`, or fdrn_adapter.codebase.activate(DIR))."
    )


def _loader_of(package: str) -> Callable[..., nn.Module] | None:
    """The stock `load_model` of a package; None for one that has networks and nothing else."""
    name = f"{package}.utils.serialization"
    try:
        return importlib.import_module(name).load_model
    except ModuleNotFoundError as error:
        if package in HOST_PACKAGES or error.name not in (f"{package}.utils", name):
            raise
        return None


def _layers(config: dict[str, Any], allowed: Sequence[str]) -> dict[str, type[nn.Module]]:
    """The parameters that are classes."""
    return {
        name: trusted.parameter_class(param["value"], allowed)
        for name, param in config["params"].items() if param["type"] == "class"
    }


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
