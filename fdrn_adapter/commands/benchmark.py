"""`fdrn benchmark`: FDRNs, stock networks and other methods on the paper's protocols."""

import argparse
import contextlib
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from fdrn_adapter import engines
from fdrn_adapter.commands.profile import checked_device, main_profile
from fdrn_adapter.evaluation import datasets, results, runner
from fdrn_adapter.evaluation.journal import Journal
from fdrn_adapter.evaluation.methods import catalogue
from fdrn_adapter.evaluation.methods.catalogue import Built, ModelSpec, Options
from fdrn_adapter.evaluation.methods.segmenter import CVPR, DEFAULT_MODE
from fdrn_adapter.evaluation.protocols import (
    MAX_CLICKS,
    PROTOCOLS,
    SPEED,
    Settings,
    parse_protocols,
)
from fdrn_adapter.timing import speed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn benchmark`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.description = (
        "Run models on data sets with simulated clicks, all models in turns, sample by sample;\n"
        "prints a table, writes results.json, report.md, plots and pictures. Ctrl-C loses "
        "nothing:\n--resume goes on with the next sample."
    )
    parser.epilog = _epilog()
    _add_what(parser)
    _add_how(parser)


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--models", metavar="A,B",
                        help="zoo names, checkpoints, graphcut, randomwalker, "
                             "sam:ENCODER.onnx,DECODER.onnx, onnx:DIR of fdrn export, "
                             "brs:NETWORK, fbrs:NETWORK; "
                             "NAME=SPEC gives one a name of yours")
    parser.add_argument("--datasets", metavar="NAME=DIR,...", default="",
                        help=f"names: {', '.join(n for n in datasets.layouts() if n != 'folder')}; "
                             "folder:DIR for images with masks or instance maps of yours")
    parser.add_argument("--protocol", metavar="P,Q", default="noc",
                        help="one or more of those below (default: %(default)s)")
    parser.add_argument("--limit", metavar="N", type=int,
                        help="only the first N samples of each data set")
    parser.add_argument("--out", metavar="DIR", default="fdrn_benchmark",
                        help="folder for the results, made if needed (default: %(default)s)")
    parser.add_argument("--resume", action="store_true",
                        help="go on with the interrupted benchmark in --out")
    parser.add_argument("--paper", action="store_true",
                        help="also print the paper's Tables 1 to 4 beside what was measured; "
                             "without --models, beside results.json in --out")
    parser.add_argument("--profile", action="store_true",
                        help="show where the time of --models goes instead of running data sets")


def _add_how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engine", metavar="E",
                        help=f"that runs the networks: auto, {', '.join(engines.names())} "
                             "(default: auto, the fastest that is installed; eager, the network as "
                             "it is, with --stock-pipeline)")
    parser.add_argument("--device", metavar="D", default="cpu",
                        help="where the networks are: cpu, cuda (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", type=int, help="default: torch's own choice")
    parser.add_argument("--codebase", metavar="DIR",
                        help="checkout for networks of isegm; default: ritm-annotation")
    parser.add_argument("--seed", metavar="N", type=int, default=0,
                        help="of the misleading clicks and of untrained networks' weights "
                             "(default: %(default)s)")
    parser.add_argument("--clicks", metavar="N", type=int, default=MAX_CLICKS,
                        help="for each sample at most (default: %(default)s)")
    parser.add_argument("--target-iou", metavar="IOU", type=float,
                        help="end a sample once it is reached; default: run all clicks, which "
                             "gives NoC for every target at once (the stock --iou-analysis)")
    parser.add_argument("--eval-mode", metavar="MODE", default=DEFAULT_MODE,
                        help="default: FDRNs in their fixed crop (288, FocalClick 256) from the "
                             "first click, as in the paper, stock networks in the stock zoom-in; "
                             "cvpr or fixedN: the stock script's, for all networks")
    parser.add_argument("--flip", action=argparse.BooleanOptionalAction,
                        help="average with the mirrored image, at twice the time, as the stock "
                             "script does (default: no)")
    parser.add_argument("--stock-pipeline", action="store_true",
                        help="what the stock evaluate_model.py runs: --flip, and --eval-mode cvpr "
                             "unless another is given")
    parser.add_argument("--repeats", metavar="N", type=int, default=speed.REPEATS,
                        help="timed rounds of the protocol speed (default: %(default)s)")


def _epilog() -> str:
    width = max(map(len, PROTOCOLS))
    lines = [f"  {name.ljust(width)}  {text}" for name, text in PROTOCOLS.items()]
    return "\n".join([
        "protocols:", *lines, "", "Example:",
        "  fdrn benchmark --models H2-hrnet18s,RITM-hrnet18,graphcut --datasets GrabCut=DIR "
        "--threads 2",
    ])


def main(args: argparse.Namespace) -> int:
    """Run the benchmark; returns the exit code."""
    if args.models is None:
        if args.paper:
            return paper_only(Path(args.out))
        raise ValueError("--models is missing; see fdrn benchmark --help.")
    specs = catalogue.parse_models(args.models)
    for spec in specs:
        catalogue.check(spec)
    if args.profile:
        return main_profile([spec.source for spec in specs], args)
    with all_threads(args.threads):
        found, out, data, models = run(args, specs)
        finish(found, out, data, models, args.paper)
    return 0


def run(
    args: argparse.Namespace, specs: Sequence[ModelSpec]
) -> tuple[dict[str, Any], Path, list[datasets.Dataset], list[Built]]:
    """Everything but the reports.

    Returns:
        what results.json holds, the output folder, the data sets and the models.

    Raises:
        ValueError: anything wrong with the arguments, found before the first sample.
        KeyboardInterrupt: after a line that says how to go on.
    """
    protocols = parse_protocols(args.protocol)
    settings = Settings(args.clicks, args.target_iou, seed=args.seed)
    options = options_of(args)
    data = open_all(args.datasets, protocols, args.limit)
    models = [catalogue.build(spec, options) for spec in specs]
    units = [runner.Unit(d, p) for p in protocols if p != SPEED for d in data]
    out = writable(args.out)
    config = configuration(args, specs, data, settings, protocols)
    journal = Journal(out, config, args.resume)
    try:
        found = measure(args, units, models, settings, journal, SPEED in protocols)
    except KeyboardInterrupt:
        print(f"\nInterrupted; what is done is in {journal.path}. The same command with --resume "
              "goes on.", file=sys.stderr)
        raise
    finally:
        journal.close()
    return found, out, data, models


def options_of(args: argparse.Namespace) -> Options:
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
    return Options(
        engines.resolve(engine, device=device), mode, bool(flip), args.threads, args.seed,
        args.codebase, device,
    )


def open_all(text: str, protocols: Sequence[str], limit: int | None) -> list[datasets.Dataset]:
    """The data sets of --datasets.

    Raises:
        ValueError: none where one is needed, unknown, missing, or two of one name.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if protocols == [SPEED]:
        return []
    if not parts:
        raise ValueError(
            "--datasets is missing: NAME=DIR with one of "
            f"{', '.join(n for n in datasets.layouts() if n != datasets.FOLDER)}, or folder:DIR. "
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


@contextlib.contextmanager
def all_threads(number: int | None) -> Iterator[None]:
    """Threads of torch and of OpenCV; None leaves both alone."""
    import cv2

    before = cv2.getNumThreads()
    with speed.threads(number):
        if number is not None:
            cv2.setNumThreads(number)
        try:
            yield
        finally:
            cv2.setNumThreads(before)


def writable(path: str) -> Path:
    """The output folder; see `demo.writable_folder`."""
    from fdrn_adapter.commands.demo import writable_folder

    return writable_folder(path)


def configuration(
    args: argparse.Namespace, specs: Sequence[ModelSpec], data: Sequence[datasets.Dataset],
    settings: Settings, protocols: Sequence[str],
) -> dict[str, Any]:
    """Everything the results depend on, which --resume must find unchanged."""
    return {
        "format": results.FORMAT,
        "models": {spec.name: [spec.text, _digest_of(spec)] for spec in specs},
        "datasets": {d.name: [len(d), _digest("\n".join(d.ids).encode())] for d in data},
        "protocols": list(protocols), "settings": asdict(settings),
        "options": asdict(options_of(args)),
    }


def _digest_of(spec: ModelSpec) -> str | None:
    """Of a checkpoint's content: another one under the same name is another model."""
    path = Path(spec.source)
    return _digest(path.read_bytes()) if spec.source and path.is_file() else None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


# -- running -----------------------------------------------------------------------------------


def measure(
    args: argparse.Namespace, units: Sequence[runner.Unit], models: Sequence[Built],
    settings: Settings, journal: Journal, with_speed: bool,
) -> dict[str, Any]:
    """Run everything; returns what results.json holds."""
    import torch

    options = options_of(args)
    head = {
        "threads": torch.get_num_threads(), "eval_mode": options.eval_mode, "flip": options.flip,
    }
    machine = results.machine()
    total = sum(map(len, units)) * len(models)
    with tqdm(total=total, desc="benchmark", unit="sample", disable=None if total else True,
              file=sys.stderr, dynamic_ncols=True) as bar:
        runner.run_units(units, models, settings, journal, bar.update)
    runs = runner.collect(units, models, settings, journal, head)
    if with_speed:
        runs += _speed(models, {"threads": head["threads"]}, args.repeats, journal)
    return {
        "format": results.FORMAT, "machine": machine, "seed": settings.seed,
        "command": getattr(args, "command_line", ""), "runs": runs,
    }


def _speed(
    models: Sequence[Built], head: dict[str, Any], repeats: int, journal: Journal
) -> list[dict[str, Any]]:
    """The protocol speed, or what the journal has of it."""
    from fdrn_adapter.evaluation.speed_runs import speed_runs

    for entry in journal.entries:
        if entry["kind"] == SPEED:
            return entry["runs"]
    with tqdm(desc="speed", unit="call", disable=None, file=sys.stderr) as bar:
        runs = speed_runs(models, head, repeats, progress=lambda name: bar.update())
    journal.add({"kind": SPEED, "runs": runs})
    return runs


# -- reporting ---------------------------------------------------------------------------------


def finish(
    found: dict[str, Any], out: Path, data: Sequence[datasets.Dataset], models: Sequence[Built],
    with_paper: bool,
) -> None:
    """Write and print everything that follows from the results."""
    from fdrn_adapter.evaluation.reports import pictures, report

    results.write(found, out)
    results.write_iou_analysis(found, out)
    print(report.terminal_table(found))
    for line in remarks(found):
        print(line)
    drawn = []
    if importlib.util.find_spec("matplotlib"):  # the report says so where it is missing
        drawn = pictures.draw(found, out, *callables(data, models))
    report.write(found, out, pictures=drawn)
    if with_paper:
        from fdrn_adapter.evaluation.reports import paper

        print("\n" + paper.text(found))
    print(f"\nWritten to {out}: {', '.join(sorted(p.name for p in out.iterdir()))}")


def remarks(found: dict[str, Any]) -> list[str]:
    """The samples that were left out, with the reason."""
    lines = []
    bad: dict[tuple[str, str], list[str]] = {}
    for run in found["runs"]:
        for skipped in run.get("skipped", []):
            key = (run["dataset"], skipped["id"])
            bad.setdefault(key, []).append(skipped["reason"])
    if bad:
        lines.append(f"{len(bad)} sample{'s' if len(bad) > 1 else ''} left out:")
        lines += [f"  {name} {sample}: {reasons[0]}" for (name, sample), reasons in bad.items()]
    return lines


def callables(data: Sequence[datasets.Dataset], models: Sequence[Built]) -> tuple:
    """What pictures are drawn with: load_sample(dataset, id) and replay(model, image, clicks)."""
    by_name = {d.name: d for d in data}
    segmenter_of = {b.spec.name: b.segmenter for b in models}

    def load_sample(dataset: str, sample_id: str) -> tuple[np.ndarray, np.ndarray]:
        sample = by_name[dataset].by_id(sample_id)
        for built in models:
            runner.prepare(built, dataset)
        return sample.image, sample.mask

    def replay(model: str, image: np.ndarray, clicks: Sequence) -> np.ndarray:
        segmenter = segmenter_of[model]
        segmenter.set_image(image)
        prob = np.zeros(image.shape[:2], np.float32)
        for x, y, positive in clicks:
            prob = segmenter.add_click(int(x), int(y), bool(positive))
        return prob

    return load_sample, replay


def paper_only(out: Path) -> int:
    """Print the paper's tables, beside the results in a folder if there are any."""
    import json

    from fdrn_adapter.evaluation.reports import paper

    path = out / "results.json"
    print(paper.text(json.loads(path.read_text()) if path.is_file() else None))
    return 0
