"""From what a user writes after --models to segmenters."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from fdrn_adapter import zoo
from fdrn_adapter.evaluation.methods.modes import DEFAULT_MODE, crop_of_mode
from fdrn_adapter.evaluation.methods.segmenter import (
    BRS_MODES,
    BrsSegmenter,
    NetworkSegmenter,
    Segmenter,
)
from fdrn_adapter.zoo.named import NamedNetwork, open_network

CLASSIC = ("graphcut", "randomwalker")
SAM = "sam"
EXPORTED = "onnx"
UNTRAINED = "untrained: random weights"


@dataclass(frozen=True)
class ModelSpec:
    """A model of a run.

    Attributes:
        name: for tables.
        kind: "network", "brs", "fbrs", "sam", "onnx", or the name of a classic method.
        source: zoo name or file; for SAM "ENCODER,DECODER", for "onnx" a folder of `fdrn export`;
            empty for a classic method.
        text: what stands on the command line for it, without a name.
    """

    name: str
    kind: str
    source: str
    text: str


@dataclass(frozen=True)
class Options:
    """How networks are run; see `NetworkSegmenter`.

    Attributes:
        codebase: folder of a checkout for networks of `isegm`, None for what is installed.
        device: of the networks.
        seed: of the weights of untrained networks.
        threads: of SAM's sessions, None for the library's choice.
    """

    engine: str = "auto"
    eval_mode: str = DEFAULT_MODE
    flip: bool = False
    threads: int | None = None
    seed: int = 0
    codebase: str | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class Built:
    """A segmenter with what is to be said about it.

    Attributes:
        model: the network, None for other methods.
        trained: False for random weights, None where there is nothing to train.
        crop_size: rows and columns of the network's crops as the zoo has them, None elsewhere.
        engine: that runs a network, None for methods without one.
    """

    spec: ModelSpec
    segmenter: Segmenter
    model: nn.Module | None
    trained: bool | None
    crop_size: tuple[int, int] | None = None
    engine: str | None = None

    @property
    def notes(self) -> list[str]:
        return [UNTRAINED] if self.trained is False else []


# -- parsing -----------------------------------------------------------------------------------


def parse_models(text: str) -> list[ModelSpec]:
    """The models of a comma-separated list; "sam:ENCODER,DECODER" is one of them.

    Each may be named: NAME=SPEC. Without, it is called after its zoo entry or file.

    Raises:
        ValueError: empty, not of a known form, or two of one name.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    specs = []
    while parts:
        name, spec = _named(parts.pop(0))
        if spec.startswith(SAM + ":"):
            if not parts or not parts[0].endswith(".onnx"):
                raise ValueError(
                    f"{spec!r} lacks its second file: write sam:ENCODER.onnx,DECODER.onnx."
                )
            spec = f"{spec},{parts.pop(0)}"
        specs.append(_spec(name, spec))
    if not specs:
        raise ValueError(f"--models is empty; {_allowed()}.")
    names = [spec.name for spec in specs]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            raise ValueError(
                f"{names.count(name)} models are called {name!r}, and results are kept by name. "
                "Name them: --models first=SPEC,second=SPEC."
            )
    return specs


def _named(part: str) -> tuple[str | None, str]:
    name, equals, spec = part.partition("=")
    if not equals or Path(part).exists() or os.sep in name or ":" in name:
        return None, part  # a path with "=" in it
    if not name or not spec:
        raise ValueError(f"A named model is written NAME=SPEC, got {part!r}.")
    return name, spec


def _spec(name: str | None, text: str) -> ModelSpec:
    kind, colon, source = text.partition(":")
    if text in CLASSIC:
        return ModelSpec(name or text, text, "", text)
    if colon and kind == SAM:
        encoder = Path(source.split(",")[0]).stem
        return ModelSpec(name or f"{SAM}:{encoder}", SAM, source, text)
    if colon and kind == EXPORTED:
        return ModelSpec(name or f"{kind}:{Path(source).name}", kind, source, text)
    if colon and kind in BRS_MODES:
        return ModelSpec(name or f"{kind}:{_short(source)}", kind, source, text)
    return ModelSpec(name or _short(text), "network", text, text)


def _short(source: str) -> str:
    return source if source in zoo.names() else Path(source).stem or source


def _allowed() -> str:
    return (
        f"allowed: a zoo name ({', '.join(zoo.names())}), the path of a checkpoint, "
        f"{', '.join(CLASSIC)}, sam:ENCODER.onnx,DECODER.onnx, onnx:DIR of fdrn export, "
        "brs:NETWORK or fbrs:NETWORK with a zoo name or a checkpoint of a stock network"
    )


def check(spec: ModelSpec) -> None:
    """See, before anything is built, that what a model is made of exists.

    Raises:
        ValueError: it does not; close names come first.
    """
    if spec.kind in CLASSIC:
        return
    if spec.kind == SAM:
        for file in spec.source.split(","):
            if not Path(file).is_file():
                raise ValueError(f"{spec.name}: there is no file {file}.")
        return
    if spec.kind == EXPORTED:
        if not (Path(spec.source) / "meta.json").is_file():
            raise ValueError(
                f"{spec.name}: {spec.source} should be a folder that `fdrn export --out` wrote; it "
                "has no meta.json."
            )
        return
    if spec.source in zoo.names() or Path(spec.source).is_file():
        return
    if os.sep in spec.source or Path(spec.source).suffix in (".pth", ".pt", ".onnx"):
        raise ValueError(f"{spec.name}: there is no checkpoint {spec.source}.")
    known = [*zoo.names(), *CLASSIC]
    by_lower = {n.lower(): n for n in known}
    close = [by_lower[c] for c in difflib.get_close_matches(spec.source.lower(), by_lower, 3, 0.5)]
    meant = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ValueError(f"There is no model {spec.source!r}.{meant} {_allowed().capitalize()}.")


# -- building ----------------------------------------------------------------------------------


def build(spec: ModelSpec, options: Options) -> Built:
    """Make the segmenter of a spec.

    Raises:
        ValueError: unknown, or it cannot be built with these options; names the model.
    """
    check(spec)
    crop_of_mode(options.eval_mode)
    if spec.kind in CLASSIC:
        from fdrn_adapter.evaluation.methods import classic

        segmenter = classic.build(spec.kind)
        segmenter.name = spec.name
        return Built(spec, segmenter, None, None)
    if spec.kind == SAM:
        from fdrn_adapter.evaluation.methods import sam

        segmenter = sam.build(spec.text, options.threads)
        segmenter.name = spec.name
        return Built(spec, segmenter, None, None, engine="onnxruntime")
    if spec.kind == EXPORTED:
        from fdrn_adapter.evaluation.methods import exported

        segmenter = exported.ExportedSegmenter(spec.name, spec.source, options.threads)
        return Built(spec, segmenter, None, None, engine="onnxruntime")
    named = network(spec.source, options)
    named.model.to(options.device)
    if spec.kind in BRS_MODES:
        segmenter = BrsSegmenter(spec.name, named.model, spec.kind, options.eval_mode, options.flip)
        engine = "eager"
    else:
        segmenter = NetworkSegmenter(
            spec.name, named.model, options.engine, options.eval_mode, options.flip, named.crop
        )
        engine = segmenter.engine
    return Built(spec, segmenter, named.model, named.trained, named.crop_size, engine)


def network(source: str, options: Options) -> NamedNetwork:
    """A network by zoo name or from a checkpoint; a checkout of another kind is passed by.

    Raises:
        ValueError: it cannot be found or built.
    """
    root = options.codebase
    if source in zoo.names():
        root = zoo.codebase_for(source, root)
    return open_network(source, root, options.seed)
