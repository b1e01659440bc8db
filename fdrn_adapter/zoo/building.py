"""Networks of the zoo: built with random weights, or with their trained ones."""

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fdrn_adapter import codebase as code_bases
from fdrn_adapter import hosts, output_folders
from fdrn_adapter.model import FDRNModel, checkpoint
from fdrn_adapter.model.inference import Inference
from fdrn_adapter.model.wrapping import wrap
from fdrn_adapter.weight_files import read_weights
from fdrn_adapter.zoo import entries
from fdrn_adapter.zoo.entries import ZooEntry, info

logger = logging.getLogger(__name__)

# What was on the package index for this release; there is no source distribution of it.
RITM_WHEELS = "ritm-annotation 0.12.2 has wheels for CPython 3.8 to 3.14 on x86-64 Linux only"


class WeightsNotAvailableError(ValueError):
    """An entry of the zoo has no trained weights."""


class NoCodeBaseError(ValueError):
    """No package with the stock networks of a zoo entry can be imported."""


def build(
    name: str,
    codebase: str | os.PathLike | None = None,
    init: str | None = None,
    seed: int | None = None,
) -> nn.Module:
    """Build a variant with random weights.

    Args:
        name: see `names`.
        codebase: folder of a checkout, which is activated in this process; None for whichever of
            `isegm` and `ritm_annotation` can be imported.
        init: "paper" or "identity" instead of what the zoo says; stock networks have no such
            choice and ignore it.
        seed: of the weights; the generator's state is left as it was. None draws from it.

    Returns:
        the FDRN model, or the stock network of a baseline, in eval mode on the CPU.

    Raises:
        ValueError: unknown name, or an `init` that does not exist.
        NoCodeBaseError: nothing to build it from; the message names both remedies.
    """
    entry = info(name)
    package = find_package(entry, codebase)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        model = stock_network(entry, package)
        if entry.fdrn is not None:
            options = {**entry.fdrn, "init": init or entry.fdrn["init"]}
            model = wrap(model, copy=False, **options)
    return model.eval()


def stock_network(entry: ZooEntry, package: str) -> nn.Module:
    """The stock network of an entry, of an FDRN its host, with random weights.

    Args:
        entry: from `info`.
        package: from `find_package`.
    """
    return hosts.build_host(_host_config(entry, package))


def _host_config(entry: ZooEntry, package: str) -> dict[str, Any]:
    """The stock `_config` of the host, from which the stock code builds it."""
    return {
        "class": f"{package}.{entry.host_class}",
        "params": {
            key: {"type": "builtin", "value": value, "specified": True}
            for key, value in entry.host_params.items()
        },
    }


def find_package(entry: ZooEntry, codebase: str | os.PathLike | None = None) -> str:
    """The package to build an entry from, patched in memory so that its networks build.

    Raises:
        NoCodeBaseError: there is none, or it is of another kind than the entry needs.
        ValueError: `codebase` holds no code base.
    """
    if codebase is not None:
        if not serves(codebase, entry):
            raise NoCodeBaseError(
                f"{entry.name} is built from {_kind(entry)}, and {codebase} is a checkout of "
                f"{_kind_of(codebase)}. Pass the folder of a {_kind(entry)} checkout to --codebase."
            )
        return code_bases.activate(codebase).package
    root = _importable_root(code_bases.PACKAGE)
    if root is not None and _serves(code_bases.kind_of(root), entry):
        return code_bases.activate(root).package
    if entry.code_base == "ritm" and _importable_root(code_bases.RITM_ANNOTATION) is not None:
        return code_bases.activate(code_bases.RITM_ANNOTATION).package
    raise NoCodeBaseError(_no_code_base(entry))


def serves(codebase: str | os.PathLike, entry: ZooEntry) -> bool:
    """Whether an entry can be built from the code base in a folder.

    Raises:
        ValueError: `codebase` holds no code base.
    """
    return _serves(_kind_of(codebase), entry)


def codebase_for(name: str, codebase: str | os.PathLike | None) -> str | os.PathLike | None:
    """`codebase` if the entry is built from such a one, else None for what is installed."""
    return codebase if codebase is None or serves(codebase, info(name)) else None


def _kind_of(codebase: str | os.PathLike) -> str:
    if os.fspath(codebase) == code_bases.RITM_ANNOTATION:
        return code_bases.RITM_ANNOTATION
    return code_bases.kind_of(code_bases.locate(codebase))


def _serves(kind: str, entry: ZooEntry) -> bool:
    """Whether a code base of that kind has the entry's networks; forks get the benefit of doubt."""
    if kind == code_bases.RITM_ANNOTATION:
        return entry.code_base == "ritm"
    return kind in (_kind(entry), "isegm fork")


def _kind(entry: ZooEntry) -> str:
    return {"ritm": "RITM", "clickseg": "ClickSEG"}[entry.code_base]


def _importable_root(package: str) -> Path | None:
    """The folder that a package would be imported from."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # half-initialised modules have no spec
        return None
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    return Path(places[0]).resolve().parent if places else None


def _no_code_base(entry: ZooEntry) -> str:
    checkout = (
        f"pass the folder of a {_kind(entry)} checkout: --codebase DIR (in Python "
        f"zoo.build({entry.name!r}, codebase=DIR))"
    )
    if entry.code_base != "ritm":
        return f"{entry.name} is built from {_kind(entry)}, which is not importable; {checkout}."
    return (
        f"{entry.name} is built from the stock RITM networks, and neither isegm (a RITM checkout) "
        "nor ritm_annotation can be imported. Either `pip install fdrn_adapter[ritm]` "
        f"({RITM_WHEELS}), or {checkout}."
    )


def load(name: str) -> nn.Module:
    """A variant with its trained weights.

    Raises:
        WeightsNotAvailableError: it has none yet, or the file is not the recorded one.
        ValueError: unknown name.
        CheckpointError: the file cannot be read, or the stock classes cannot be imported.
    """
    entry = info(name)
    if entry.weights is None:
        raise WeightsNotAvailableError(
            f"{entry.name} has no trained weights in the zoo. zoo.build({entry.name!r}) gives it "
            "with random weights; fdrn_adapter.wrap(net) turns a trained network of yours into "
            "an FDRN."
        )
    path = _recorded(entry, entry.weights, "file", "sha256")
    if "encoder" not in entry.weights:
        model = checkpoint.load(path)
    else:
        _recorded(entry, entry.weights, "encoder", "encoder_sha256")
        model = build(name)  # with the packaged F1
        checkpoint.load_weights_beside(model, read_weights(path), "image_encoder.backbone.", path)
    if isinstance(model, FDRNModel) and model.inference is None:
        model.inference = Inference.of(entry.inference or {"crop": entry.crop_size[0]})
    return model


def _recorded(entry: ZooEntry, weights: dict[str, str], file: str, checksum: str) -> Path:
    """One of an entry's files of weights.

    Raises:
        WeightsNotAvailableError: it is missing, or not the recorded one.
    """
    path = entries.folder() / weights[file]
    if not path.is_file():
        raise WeightsNotAvailableError(
            f"The weights of {entry.name} should be in {path}, which does not exist: install the "
            "package again, or copy the file there."
        )
    digest = output_folders.checksum(path)
    if digest != weights[checksum]:
        raise WeightsNotAvailableError(
            f"{path} is not the recorded file of {entry.name}: its sha256 is {digest}, recorded "
            f"is {weights[checksum]}. Copy or download it again."
        )
    return path
