"""`fdrn demo`: stock RITM and FDRN on one photograph, with one click sequence, in one run."""

import argparse
import importlib.util
import json
import sys

from fdrn_adapter.commands import options
from fdrn_adapter.timing import REPEATS
from fdrn_adapter.zoo.entries import names

MODELS = ("RITM-hrnet32", "RITM-hrnet18", "H2-hrnet18s", "H2-hrnet18")
TRAINED = "distilled-hrnet18s"  # its F1 is timm's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn demo`."""
    parser.description = (
        "Run one click sequence on one photograph through stock RITM networks and their FDRN "
        "variants, in turns. Prints times (eq. 6) and ratios beside the paper's; writes "
        "overlay.png (masks and clicks), t_ave.png (eq. 7, the paper's Fig. 5) and demo.json."
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
    parser.add_argument("--stock-engine", metavar="ENGINE",
                        help="of the stock networks (default: that of --engine)")
    options.add_threads(parser)
    parser.add_argument("--repeats", metavar="N", type=int, default=REPEATS,
                        help="timed rounds, of which the median counts (default: %(default)s)")
    options.add_seed(parser)
    parser.add_argument("--no-plots", action="store_true",
                        help="write demo.json only; matplotlib is then not needed")


def main(args: argparse.Namespace) -> int:
    """Run the demo; returns the exit code."""
    from fdrn_adapter.optional import require_matplotlib
    from fdrn_adapter.timing import demo, demo_report, drawing, speed
    from fdrn_adapter.writable import writable_folder
    from fdrn_adapter.zoo.entries import chosen

    models = chosen(default_models() if args.models is None else args.models)
    out = writable_folder(args.out)
    if not args.no_plots:
        require_matplotlib()
    image, source = demo.photograph(args.image)
    if args.repeats < 1:
        raise ValueError(f"--repeats should be at least 1, got {args.repeats}.")
    with speed.threads(args.threads), _bar() as bar:
        subjects = [
            demo.subject_of(n, args.codebase, args.seed, args.engine, args.stock_engine)
            for n in models
        ]
        timed = demo.candidates(subjects, image)
        bar.reset(len(timed) * (args.repeats + speed.WARMUP))
        measured = speed.measure(timed, args.repeats, progress=lambda name: bar.update())
        results = demo.results_of(subjects, image, source, args.seed, measured)
        bar.set_description("masks")
        bar.reset(len(demo.shown(subjects)) * len(results["clicks"]))
        masks = None if args.no_plots else demo.masks_of(subjects, image, bar.update)
    written = [out / "demo.json"]
    written[0].write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if masks is not None:
        written += [out / "overlay.png", out / "t_ave.png"]
        drawing.draw_overlay(written[1], image, masks, demo.click_sequence(image), results)
        drawing.draw_average(written[2], results)
    print(demo_report.text(results))
    print("\nWritten: " + ", ".join(map(str, written)))
    return 0


def _bar():
    """Progress, on a terminal."""
    from tqdm import tqdm

    return tqdm(desc="measuring", leave=False, disable=not sys.stderr.isatty())


def default_models() -> str:
    """The networks of the paper's comparison, and a trained one where it can be built."""
    trained = [TRAINED] if importlib.util.find_spec("timm") is not None else []
    return ",".join([*MODELS, *trained])
