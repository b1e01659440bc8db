"""A benchmark before it begins: all that was asked for, checked."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fdrn_adapter import engines
from fdrn_adapter.engines.engine import precision_of
from fdrn_adapter.evaluation import datasets, results
from fdrn_adapter.evaluation.methods import catalogue
from fdrn_adapter.evaluation.methods.method import ModelSpec, Options
from fdrn_adapter.evaluation.methods.modes import CVPR, DEFAULT_MODE
from fdrn_adapter.evaluation.reports.naming import check_names
from fdrn_adapter.evaluation.settings import SPEED, Settings, parse_protocols, refuse_timed
from fdrn_adapter.evaluation.tasks import Unit
from fdrn_adapter.timing.speed import checked_device
from fdrn_adapter.workers import HERE, Workers


@dataclass(frozen=True)
class Plan:
    """What a benchmark is to do.

    Attributes:
        specs: models.
        protocols: names.
        settings: of all samples.
        options: how networks are run.
        data: data sets, opened.
        out: folder for the results.
        resume: go on with what is in it.
        repeats: timed rounds of the protocol speed.
        command: the command line, for results that say where they are from.
        workers: where samples run.
    """

    specs: list[ModelSpec]
    protocols: list[str]
    settings: Settings
    options: Options
    data: list[datasets.Dataset]
    out: Path
    resume: bool
    repeats: int
    command: str
    workers: Workers = HERE

    @property
    def units(self) -> list[Unit]:
        """Passes over data sets, in their order."""
        return [Unit(d, p) for p in self.protocols if p != SPEED for d in self.data]

    @property
    def with_speed(self) -> bool:
        return SPEED in self.protocols

    def configuration(self) -> dict[str, Any]:
        """Everything the results depend on, which --resume must find unchanged."""
        options = asdict(self.options)
        # Journals of before there was a choice go on.
        for name in ("device", "stock_engine", "precision"):
            if options[name] == getattr(Options, name):
                del options[name]
        return {
            "format": results.FORMAT,
            "models": {spec.name: [spec.text, catalogue.digest_of(spec)] for spec in self.specs},
            "datasets": {d.name: [len(d), _digest("\n".join(d.ids).encode())] for d in self.data},
            "protocols": list(self.protocols), "settings": asdict(self.settings),
            "options": options,
        }


def plan_of(args: Any) -> Plan:
    """The plan of parsed arguments of `fdrn benchmark`.

    Raises:
        ValueError: what is wrong with them.
    """
    specs = models_of(args.models)
    protocols = parse_protocols(args.protocol)
    settings = Settings(args.clicks, args.target_iou, seed=args.seed)
    options = options_of(args)
    workers = workers_of(args.jobs, args.ray, options)
    if not workers.here:
        refuse_timed(protocols)
        workers.check()
        options = replace(options, threads=workers.threads)
    data = open_all(args.datasets, protocols, args.limit)
    check_names([spec.name for spec in specs], [d.name for d in data])
    command = getattr(args, "command_line", "")
    return Plan(
        specs, protocols, settings, options, data, Path(args.out), args.resume, args.repeats,
        command, workers,
    )


def workers_of(jobs: int | None, ray: str | None, options: Options) -> Workers:
    """Where samples run; workers have one thread unless another number is given.

    Raises:
        ValueError: contradicting options.
    """
    return Workers(1 if jobs is None else jobs, ray, options.threads or 1, options.device != "cpu")


def models_of(text: str) -> list[ModelSpec]:
    """The models of a comma-separated list, which exist.

    Raises:
        ValueError: one that does not.
    """
    specs = catalogue.parse_models(text)
    for spec in specs:
        catalogue.check(spec)
    return specs


def options_of(args: Any) -> Options:
    """How networks are run.

    Raises:
        ValueError: contradicting options.
    """
    flip, mode = args.flip, args.eval_mode
    if args.stock_pipeline:
        if flip is False:
            raise ValueError("--stock-pipeline flips; leave out --no-flip, or --stock-pipeline.")
        flip, mode = True, CVPR if mode == DEFAULT_MODE else mode
    engine = args.engine or ("eager" if args.stock_pipeline else "auto")
    device = checked_device(args.device)
    stock = engines.resolve(args.stock_engine, device=device) if args.stock_engine else None
    return Options(
        engines.resolve(engine, device=device), mode, bool(flip), args.threads, args.seed,
        args.codebase, device, stock, precision_of(args.precision),
    )


def open_all(text: str, protocols: Sequence[str], limit: int | None) -> list[datasets.Dataset]:
    """The data sets of --datasets.

    Raises:
        ValueError: none where one is needed, unknown, missing, or two of one name.
    """
    parts = datasets.split_specs(text)
    if protocols == [SPEED]:
        return []
    if not parts:
        raise ValueError(
            "--datasets is missing: NAME=DIR with one of "
            f"{', '.join(datasets.names())}, or folder:DIR. "
            "--protocol speed needs none."
        )
    if limit is not None and limit < 1:
        raise ValueError(f"--limit should be at least 1, got {limit}.")
    names = [datasets.split_spec(part)[0] for part in parts]
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            raise ValueError(
                f"{names.count(name)} data sets are called {name!r}, and results are kept by "
                "name; name folders: first=folder:DIR,second=folder:DIR."
            )
    return [datasets.open_dataset(part, limit) for part in parts]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
