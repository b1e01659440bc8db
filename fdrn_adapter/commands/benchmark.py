"""`fdrn benchmark`: FDRNs, stock networks and other methods on the paper's protocols."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

from fdrn_adapter.close_names import close_names, close_paths, did_you_mean
from fdrn_adapter.commands import options
from fdrn_adapter.evaluation import datasets
from fdrn_adapter.evaluation.methods.modes import DEFAULT_MODE
from fdrn_adapter.evaluation.settings import MAX_CLICKS, PROTOCOLS
from fdrn_adapter.timing import REPEATS
from fdrn_adapter.writable import check_writable
from fdrn_adapter.zoo.entries import check_source, names

KINDS = ("", "sam", "onnx", "brs", "fbrs")  # of --models, in front of a file or folder
FILES = (".pth", ".pt", ".onnx")


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
                        help=f"names: {', '.join(datasets.names())}; "
                             "folder:DIR for images with masks or instance maps of yours; a comma "
                             "in a path is written \\,")
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
    options.add_engine(parser, None, "default: auto; eager, the network as it is, with "
                       "--stock-pipeline")
    options.add_stock_engine(parser)
    options.add_device(parser)
    options.add_threads(parser)
    options.add_codebase(parser)
    options.add_workers(parser, "samples", "1", files="--datasets, models and --codebase")
    options.add_seed(parser, "the misleading clicks and of untrained networks' weights")
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
    parser.add_argument("--repeats", metavar="N", type=int, default=REPEATS,
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
    if args.models is None and args.paper:
        return print_paper(Path(args.out) / "results.json")
    if args.models is None:
        raise ValueError("--models is missing; see fdrn benchmark --help.")
    options.check_networks(args.codebase)
    check_models(args.models)
    if not args.profile:
        check_writable(args.out)
    from fdrn_adapter.evaluation import plan

    if args.profile:
        from fdrn_adapter.commands.profile import print_profiles

        return print_profiles([spec.source for spec in plan.models_of(args.models)], args)
    print_outcome(measured(plan.plan_of(args)), args.paper)
    return 0


def check_models(text: str) -> None:
    """Refuse what can only be a network misspelt before torch is imported; `plan` checks the rest.

    Raises:
        ValueError: there is no such network, or not the files that it is made of.
    """
    others = entry_points(group="fdrn_adapter.methods")  # may call their methods as they like
    parts = [part.strip() for part in text.split(",")]
    for part, following in zip(parts, [*parts[1:], ""], strict=True):
        source = part.rpartition("=")[2]
        kind, _, place = source.rpartition(":")
        if source in names():
            check_source(source)  # the file of its image encoder
            continue
        if any(map(os.path.exists, (part, part.partition(":")[2], source, place))):
            continue
        if kind in KINDS and (kind != "sam" or following.endswith(".onnx")):
            _check_place(kind, place)
        if not kind and not others and close_names(source, names(), 0.85):
            close = did_you_mean(close_names(source, names()))
            raise ValueError(f"There is no model {source!r}.{close} `fdrn zoo` lists the networks.")


def _check_place(kind: str, place: str) -> None:
    """Refuse a file or folder of a model, which is not there."""
    if kind == "onnx":
        close = did_you_mean(close_paths(place, os.path.isdir))
        raise ValueError(f"--models: there is no folder {place}.{close}")
    if Path(place).suffix in FILES:
        what = "file" if place.endswith(".onnx") else "checkpoint"
        raise ValueError(f"--models: there is no {what} {place}.{did_you_mean(close_paths(place))}")


def measured(chosen):
    """The outcome of a plan; Ctrl-C says how to go on."""
    from fdrn_adapter.evaluation import benchmark, journal

    try:
        return benchmark.run(chosen, bar)
    except KeyboardInterrupt:
        if (done := chosen.out / journal.NAME).is_file():
            print(f"\nInterrupted; what is done is in {done}. The same command with --resume "
                  "goes on.", file=sys.stderr)
        raise


def print_outcome(outcome, with_paper: bool) -> None:
    """Write the reports, and print the tables and what was left out."""
    from fdrn_adapter.evaluation import benchmark
    from fdrn_adapter.evaluation.reports import paper, report

    out = outcome.plan.out
    benchmark.write_results(outcome)
    print(report.terminal_table(outcome.found))
    for line in benchmark.remarks(outcome.found):
        print(line)
    benchmark.write_report(outcome)
    if with_paper:
        print("\n" + paper.text(outcome.found))
    print(f"\nWritten to {out}: {', '.join(benchmark.written_in(out))}")


def print_paper(path: Path) -> int:
    """Print the paper's tables, beside the results in a file if there is one."""
    import json

    from fdrn_adapter.evaluation.reports import paper

    print(paper.text(json.loads(path.read_text()) if path.is_file() else None))
    return 0


@contextmanager
def bar(total: int | None, what: str, unit: str) -> Iterator[Callable[[int], object]]:
    """A progress bar on a terminal; none where there is nothing to do."""
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit=unit, disable=True if total == 0 else None,
              file=sys.stderr, dynamic_ncols=True) as shown:
        yield shown.update
