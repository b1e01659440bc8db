"""The table of methods, and from what a user writes after --models to segmenters."""

import difflib
import hashlib
import os
from pathlib import Path

from fdrn_adapter import zoo
from fdrn_adapter.evaluation.methods import brs, classic, exported, networks, sam
from fdrn_adapter.evaluation.methods.method import Built, Method, ModelSpec, Options
from fdrn_adapter.evaluation.methods.modes import crop_of_mode
from fdrn_adapter.table import Table

METHODS: Table[Method] = Table("fdrn_adapter.methods", (
    networks.NETWORK, classic.GRAPHCUT, classic.RANDOMWALKER, sam.SAM, exported.ONNX, brs.BRS,
    brs.FBRS,
))


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
        method = _method_of(spec)
        for ending in method.further:
            if not parts or not parts[0].endswith(ending):
                raise ValueError(f"{spec!r} lacks its second file: write {method.help}.")
            spec = f"{spec},{parts.pop(0)}"
        source = method.source_of(spec)
        specs.append(ModelSpec(name or method.title(source), method.name, source, spec))
    if not specs:
        raise ValueError(f"--models is empty. {_allowed()}")
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


def _method_of(text: str) -> Method:
    """The kind that accepts a text; a network is what no other kind does."""
    others = (method for method in METHODS.values() if method is not networks.NETWORK)
    return next((method for method in others if method.accepts(text)), networks.NETWORK)


def _allowed() -> str:
    *first, last = (method.help for method in METHODS.values())
    return f"Allowed: {', '.join(first)} or {last}."


def check(spec: ModelSpec) -> None:
    """See, before anything is built, that what a model is made of exists.

    Raises:
        ValueError: it does not; close names come first.
    """
    try:
        METHODS[spec.kind].check(spec)
    except LookupError as error:
        words = [m.name for m in METHODS.values() if not m.takes_source and m.name != "network"]
        by_lower = {name.lower(): name for name in [*zoo.names(), *words]}
        close = difflib.get_close_matches(spec.source.lower(), by_lower, 3, 0.5)
        meant = f" Did you mean {' or '.join(repr(by_lower[c]) for c in close)}?" if close else ""
        raise ValueError(f"There is no model {spec.source!r}.{meant} {_allowed()}") from error


def digest_of(spec: ModelSpec) -> str | None:
    """Of a checkpoint's content, for another one under the same name is another model; else None.
    """
    path = Path(spec.source)
    if not spec.source or not path.is_file():
        return None
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


# -- building ----------------------------------------------------------------------------------


def build(spec: ModelSpec, options: Options) -> Built:
    """Make the segmenter of a spec.

    Raises:
        ValueError: unknown, or it cannot be built with these options; names the model.
    """
    check(spec)
    crop_of_mode(options.eval_mode)
    return METHODS[spec.kind].build(spec, options)
