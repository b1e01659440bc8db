"""The variants of the paper's Table 2 and networks trained here: model_zoo/*.yaml, by name."""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from fdrn_adapter.close_names import close_names, close_paths, did_you_mean
from fdrn_adapter.encoders import onnx_file

DEFAULT_NAME = "distilled-hrnet18s"  # asked where adapters are told no other
TRAINED = "model.pth"  # what `fdrn train` ends with
STOPPED = "training_state.pth"  # what `training.state` leaves of a training that may go on


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
        weights: {"file", "sha256", "training"}, None while it is untrained; with "encoder" (and its
            "encoder_sha256"), F1's weights are in a file of their own, and "file" has F2's, which
            another entry may share.
        inference: how it was trained to be used, see `model.inference`; empty where crop_size says
            all.
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
    inference: dict[str, Any]
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
    close = close_names(str(name), entries)
    others = [known for known in entries if known not in close]
    raise ValueError(
        f"There is no {name!r} in the zoo.{did_you_mean(close)} "
        f"Allowed: {', '.join(close + others)}."
    )


def check_source(source: str) -> None:
    """See that a network is there by what a user calls it, before anything slow is imported.

    Args:
        source: a name of the zoo, or a checkpoint: a file, or a folder of `save_pretrained`.

    Raises:
        ValueError: there is no such thing, or not the file that the variable of its image encoder
            names; what looks like it comes first.
    """
    path = Path(source)
    if source in names():
        if (info(source).fdrn or {}).get("encoder") == onnx_file.PREFIX:
            onnx_file.file_of(onnx_file.PREFIX)
        return
    if path.is_file():
        return
    if path.is_dir():
        # Waits for torch, which a folder of that kind needs in any case.
        from fdrn_adapter.model.pretrained_folder import CONFIG, WEIGHTS, is_pretrained

        if not is_pretrained(source):
            inside = did_you_mean(str(p) for p in sorted(path.glob("*.pth")))
            raise ValueError(
                f"{source} is a folder without {CONFIG} and {WEIGHTS}, which save_pretrained "
                f"writes.{inside} Pass a checkpoint's file, or such a folder."
            )
    elif path.suffix or path.name != source:
        if path.name == TRAINED and (path.parent / STOPPED).is_file():
            raise ValueError(
                f"There is no file {source}: the training in {path.parent} is not finished. "
                "`fdrn train ... --resume` with its options goes on."
            )
        close = [*close_paths(source), *close_names(source, names())]
        raise ValueError(
            f"There is no file {source}, and no network of that name.{did_you_mean(close)} "
            f"The zoo has {', '.join(names())}."
        )
    else:
        info(source)


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
        inference=data.get("inference", {}),
        order=data["order"],
    )


def chosen(models: str | None) -> list[str]:
    """The zoo names in a comma-separated list, all of them for None.

    Raises:
        ValueError: a name that the zoo does not have, or none at all.
    """
    if models is None:
        return paper_names()
    given = [name.strip() for name in models.split(",") if name.strip()]
    if not given:
        raise ValueError(f"--models is empty; allowed: {', '.join(names())}.")
    return [info(name).name for name in dict.fromkeys(given)]
