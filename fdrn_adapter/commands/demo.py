"""`fdrn demo`: stock RITM and FDRN on one photograph, with one click sequence, in one run."""

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from fdrn_adapter.commands import options
from fdrn_adapter.timing import REPEATS
from fdrn_adapter.writable import writable_folder
from fdrn_adapter.zoo.entries import chosen, names

MODELS = ("RITM-hrnet32", "RITM-hrnet18", "H2-hrnet18s", "H2-hrnet18")
SAY_S = 15.0  # between lines of progress where there is no terminal
TRAINED = "distilled-hrnet18s"  # its F1 is timm's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn demo`."""
    parser.description = (
        "Run one click sequence on one photograph through stock RITM networks and their FDRN "
        "variants, in turns: masks of the trained ones first, then times (eq. 6) and ratios beside "
        "the paper's. Writes overlay.png (masks and clicks), t_ave.png (eq. 7, the paper's Fig. 5) "
        "and demo.json. Nothing is downloaded."
    )
    parser.epilog = "Example: fdrn demo --image photo.jpg --out fdrn_demo --threads 2"
    parser.add_argument("--image", metavar="FILE",
                        help="photograph; default: scikit-image's `astronaut`. The clicks were set "
                             "for that one and lie on the same relative places of yours")
    parser.add_argument("--out", metavar="DIR", default="fdrn_demo",
                        help="folder for the results, made if needed (default: %(default)s)")
    options.add_codebase(parser)
    parser.add_argument("--models", metavar="A,B",
                        help=f"default: {','.join(MODELS)}, and where timm is installed {TRAINED}, "
                             f"which has trained weights; allowed: {', '.join(names())}")
    options.add_engine(parser)
    options.add_stock_engine(
        parser, "eager", "default: %(default)s, which is how their own code runs"
    )
    options.add_threads(parser)
    parser.add_argument("--repeats", metavar="N", type=int, default=REPEATS,
                        help="timed rounds, of which the median counts (default: %(default)s)")
    options.add_seed(parser)
    parser.add_argument("--no-plots", action="store_true",
                        help="write demo.json only; matplotlib is then not needed")


def main(args: argparse.Namespace) -> int:
    """Run the demo; returns the exit code."""
    models = chosen(default_models() if args.models is None else args.models)
    options.check_networks(args.codebase, models)
    out = writable_folder(args.out)
    from fdrn_adapter.optional import require_matplotlib
    from fdrn_adapter.timing import demo, demo_report, drawing, speed

    if not args.no_plots:
        require_matplotlib()
    image, source = demo.photograph(args.image)
    if args.repeats < 1:
        raise ValueError(f"--repeats should be at least 1, got {args.repeats}.")
    written = [out / "demo.json"]
    with speed.threads(args.threads):
        subjects = [_opened(name, args) for name in models]
        if not args.no_plots:
            written.insert(0, out / "overlay.png")
            _say(f"masks of {', '.join(s.name for s in demo.shown(subjects))} ...")
            drawing.draw_overlay(written[0], image, demo.masks_of(subjects, image),
                                 demo.click_sequence(image), demo.trained(subjects))
            _say(f"  {written[0]}")
        results = _timed(subjects, image, source, args)
    written[-1].write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if not args.no_plots:
        written.append(out / "t_ave.png")
        drawing.draw_average(written[-1], results)
    print(demo_report.text(results))
    print("\nWritten: " + ", ".join(map(str, written)))
    return 0


def _opened(name: str, args: argparse.Namespace):
    """A network, announced with its weights and what will run it."""
    from fdrn_adapter.timing import demo

    subject = demo.subject_of(name, args.codebase, args.seed, args.engine, args.stock_engine)
    weights = "trained" if demo.trained([subject]) else "for times alone, its weights are random"
    engine = "torch eager" if subject.engine == "eager" else f"{subject.engine} will compile it"
    _say(f"{name}: {weights}; {engine}")
    return subject


def _timed(subjects: list, image, source: str, args: argparse.Namespace) -> dict:
    """What demo.json holds; progress as lines, and as a bar on a terminal."""
    from tqdm import tqdm

    from fdrn_adapter.timing import demo, speed

    _say("compiling, where an engine does ...")
    timed = demo.candidates(subjects, image)
    rounds = args.repeats + speed.WARMUP
    _say(f"timing: {len(subjects)} networks in turns, {rounds} rounds ...")
    with tqdm(desc="timing", total=len(timed) * rounds, leave=False,
              disable=not sys.stderr.isatty()) as bar:
        measured = speed.measure(timed, args.repeats, progress=_told(bar, len(timed), rounds))
    if (busy := speed.others_at_work()):
        _say(busy)
    return demo.results_of(subjects, image, source, args.seed, measured)


def _told(bar: Any, calls: int, rounds: int) -> Callable[[str], None]:
    """Moves a bar on; where there is none, says from time to time how far it is."""
    done, start = 0, time.monotonic()
    said = start

    def progress(name: str) -> None:
        nonlocal done, said
        done += 1
        bar.update()
        now = time.monotonic()
        if bar.disable and now - said >= SAY_S:
            left = (now - start) / done * (calls * rounds - done)
            _say(f"  {done / calls:.1f} of {rounds} rounds, {left:.0f} s left")
            said = now

    return progress


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def default_models() -> str:
    """The networks of the paper's comparison, and a trained one where it can be built."""
    trained = [TRAINED] if importlib.util.find_spec("timm") is not None else []
    return ",".join([*MODELS, *trained])
