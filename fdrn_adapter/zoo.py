"""The variants of the paper's Table 2 and networks trained here: model_zoo/*.yaml, by name."""

import argparse
import difflib
import hashlib
import importlib.util
import logging
import os
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from fdrn_adapter import hosts

logger = logging.getLogger(__name__)

# What was on the package index for this release; there is no source distribution of it.
RITM_WHEELS = "ritm-annotation 0.12.2 has wheels for CPython 3.8 to 3.14 on x86-64 Linux only"


class WeightsNotAvailableError(ValueError):
    """An entry of the zoo has no trained weights."""


class NoCodeBaseError(ValueError):
    """No package with the stock networks of a zoo entry can be imported."""


@dataclass(frozen=True)
class Figures:
    """One network's row of the paper's Table 2.

    Attributes:
        params_m: parameters, millions.
        macs_g: what the paper calls FLOPs: multiply-adds, 10^9.
        cpu_ms, gpu_ms: time of one run, milliseconds.
    """

    params_m: float
    macs_g: float
    cpu_ms: float
    gpu_ms: float


@dataclass(frozen=True)
class ZooEntry:
    """One file of the model zoo.

    Attributes:
        name: of the file.
        title: the paper's name, or what the network is.
        code_base: "ritm" or "clickseg", whose stock networks it is built from.
        host_class: dotted name under the code base's package.
        host_params: arguments of that class.
        fdrn: arguments of `fdrn_adapter.wrap`, None for a stock network.
        crop_size: rows and columns of the crops that the network is given.
        encoder_input: rows and columns of the image for the figures of F1, None without F1.
        paper_encoder, paper_network: the paper's figures of F1 and of F2 (or the stock network).
        paper_noc: training data -> {"sbd_90": clicks, ...}, Table 1.
        weights: {"file", "sha256", "training"}, None while it is untrained.
        order: place in tables.
    """

    name: str
    title: str
    code_base: str
    host_class: str
    host_params: dict[str, Any]
    fdrn: dict[str, Any] | None
    crop_size: tuple[int, int]
    encoder_input: tuple[int, int] | None
    paper_encoder: Figures | None
    paper_network: Figures | None
    paper_noc: dict[str, dict[str, float]]
    weights: dict[str, Any] | None
    order: int

    @property
    def is_fdrn(self) -> bool:
        return self.fdrn is not None


def folder() -> Path:
    """Where the YAML files (and trained weights) are."""
    return Path(str(resources.files("fdrn_adapter.model_zoo")))


def names() -> list[str]:
    """All variants: those of the paper's Table 2 in its order, then networks of our own."""
    return [entry.name for entry in _entries(folder()).values()]


def paper_names() -> list[str]:
    """The variants of the paper's Table 2."""
    return [name for name in names() if info(name).paper_network is not None]


def info(name: str) -> ZooEntry:
    """What the zoo knows about one variant.

    Raises:
        ValueError: no such variant; the message lists them, those that look alike first.
    """
    entries = _entries(folder())
    if name in entries:
        return entries[name]
    by_lower = {known.lower(): known for known in entries}
    close = [by_lower[n] for n in difflib.get_close_matches(str(name).lower(), by_lower, 3, 0.5)]
    others = [known for known in entries if known not in close]
    meant = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ValueError(
        f"There is no {name!r} in the zoo.{meant} Allowed: {', '.join(close + others)}."
    )


@cache
def _entries(where: Path) -> dict[str, ZooEntry]:
    entries = [_read(path) for path in sorted(where.glob("*.yaml"))]
    return {entry.name: entry for entry in sorted(entries, key=lambda e: (e.order, e.name))}


def _read(path: Path) -> ZooEntry:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    paper = data["paper"] or {}  # null for networks that are not the paper's
    table2 = paper.get("table2", {})

    def figures(part: str) -> Figures | None:
        return Figures(**table2[part]) if table2.get(part) else None

    return ZooEntry(
        name=path.stem,
        title=data["title"],
        code_base=data["code_base"],
        host_class=data["host"]["class"],
        host_params=data["host"]["params"],
        fdrn=data["fdrn"],
        crop_size=tuple(data["crop_size"]),
        encoder_input=tuple(data["encoder_input"]) if data["encoder_input"] else None,
        paper_encoder=figures("image_encoder"),
        paper_network=figures("mask_network"),
        paper_noc=paper.get("table1_noc", {}),
        weights=data["weights"],
        order=data["order"],
    )


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
    from fdrn_adapter.wrapping import wrap

    entry = info(name)
    package = find_package(entry, codebase)
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        model = stock_network(entry, package)
        if entry.is_fdrn:
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
    from fdrn_adapter import codebase as code_bases

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
    if entry.code_base == "ritm" and _importable_root("ritm_annotation") is not None:
        return code_bases.activate("ritm_annotation").package
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
    from fdrn_adapter import codebase as code_bases

    if os.fspath(codebase) == "ritm_annotation":
        return "ritm_annotation"
    return code_bases.kind_of(code_bases.locate(codebase))


def _serves(kind: str, entry: ZooEntry) -> bool:
    """Whether a code base of that kind has the entry's networks; forks get the benefit of doubt."""
    if kind == "ritm_annotation":
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
    from fdrn_adapter import checkpoint

    entry = info(name)
    if entry.weights is None:
        raise WeightsNotAvailableError(
            f"{entry.name} has no trained weights in the zoo. zoo.build({entry.name!r}) gives it "
            "with random weights; fdrn_adapter.wrap(net) turns a trained network of yours into "
            "an FDRN."
        )
    path = folder() / entry.weights["file"]
    if not path.is_file():
        raise WeightsNotAvailableError(
            f"The weights of {entry.name} should be in {path}, which does not exist: install the "
            "package again, or copy the file there."
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != entry.weights["sha256"]:
        raise WeightsNotAvailableError(
            f"{path} is not the recorded file of {entry.name}: its sha256 is {digest}, recorded "
            f"is {entry.weights['sha256']}. Copy or download it again."
        )
    return checkpoint.load(path)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn zoo` (none but --help)."""
    parser.description = (
        "List the networks that can be built by name: the variants of the paper's Table 2 with the "
        "paper's own figures, and those that were trained here."
    )
    parser.epilog = "Example: fdrn zoo"


def main(args: argparse.Namespace) -> int:
    """Print the zoo."""
    head = ("name", "params M", "G mult-adds", "CPU ms", "GPU ms", "crop", "NoC@90 SBD", "DAVIS")
    rows = [head, ("", "F1 / F2", "F1 / F2", "F1 / F2", "F1 / F2", "", "", "")]
    for name in names():
        entry = info(name)
        pairs = [_pair(entry, f) for f in ("params_m", "macs_g", "cpu_ms", "gpu_ms")]
        noc = [
            "; ".join(f"{clicks[key]:.2f} ({data})" for data, clicks in entry.paper_noc.items())
            for key in ("sbd_90", "davis_90")
        ]
        trained = "" if entry.weights else " (untrained)"
        rows.append((entry.name + trained, *pairs, "x".join(map(str, entry.crop_size)), *noc))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    print(
        "\nThe figures are the paper's (Tables 1 and 2), measured by its authors; F1 on an image "
        "of 481x321.\nBuild one with fdrn_adapter.zoo.build(name); `fdrn complexity` counts them."
    )
    return 0


def _pair(entry: ZooEntry, field: str) -> str:
    values = [getattr(f, field) if f else None for f in (entry.paper_encoder, entry.paper_network)]
    return " / ".join("-" if v is None else f"{v:g}" for v in values)
