"""`fdrn profile`: where the time of a click goes, and what it grows with."""

import argparse
import sys
from pathlib import Path

from fdrn_adapter.commands import options
from fdrn_adapter.writable import writable_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn profile`."""
    parser.description = (
        "Time the parts of a click, or with --costs whole interactions over the number of clicks, "
        "objects and pixels."
    )
    parser.epilog = "Example: fdrn profile --models H2-hrnet18s --engine openvino --threads 2"
    parser.add_argument("--models", metavar="A,B", default="H2-hrnet18s",
                        help="variants of the zoo, or checkpoints (default: %(default)s)")
    options.add_engine(parser)
    options.add_stock_engine(parser)
    options.add_device(parser)
    options.add_threads(parser)
    options.add_codebase(parser)
    parser.add_argument("--costs", action="store_true",
                        help="cost over work instead; writes costs.json and costs.png")
    parser.add_argument("--out", metavar="DIR", default="fdrn_costs",
                        help="folder for --costs (default: %(default)s)")


def main(args: argparse.Namespace) -> int:
    """Run `fdrn profile`."""
    names = [name.strip() for name in args.models.split(",") if name.strip()]
    options.check_networks(args.codebase, names)
    if args.costs:
        writable_folder(args.out)
    return print_costs(names, args) if args.costs else print_profiles(names, args)


def print_profiles(models: list[str], args: argparse.Namespace) -> int:
    """Print the profile of each model; `args` has threads, engines, device and codebase."""
    from fdrn_adapter import engines
    from fdrn_adapter.timing import speed
    from fdrn_adapter.timing.click_profile import REPEATS, ROIS, profile
    from fdrn_adapter.zoo.named import announced

    with speed.threads(args.threads):
        for name in models:
            named = announced(name, args.codebase)
            model, crop = named.model.to(speed.checked_device(args.device)), named.crop
            engine = engines.resolve(_engine_of(model, args), model)
            for kind in dict.fromkeys(("eager", engine)):
                title = "eager torch, by hooks" if kind == "eager" else kind
                print(f"\n{name}, {title}; {speed.Machine.here()}; median of {REPEATS}")
                print(_table({
                    label: profile(model, crop, kind, new_roi) for new_roi, label in ROIS.items()
                    if not new_roi or getattr(model, "with_prev_mask", False)
                }))
    return 0


def _engine_of(model, args: argparse.Namespace) -> str:
    """What was asked for a model, which may be "auto"."""
    from fdrn_adapter.hosts.catalogue import is_fdrn

    return (None if is_fdrn(model) else args.stock_engine) or args.engine or "auto"


def _table(columns: dict[str, list]) -> str:
    """The parts of a click in one column of times and shares for each kind of click."""
    from fdrn_adapter.timing.click_profile import ROWS

    names = dict.fromkeys(name for rows in columns.values() for name, *_ in rows)
    found = {label: {name: rest for name, *rest in rows} for label, rows in columns.items()}
    lines = [" " * 36 + "".join(f"{label:>18s}" for label in columns)]
    for name in sorted(names, key=list(ROWS.values()).index):
        cells = [found[label].get(name, (0.0, 0.0)) for label in columns]
        lines.append(f"  {name:34s}" + "".join(
            f"{ms:8.1f} ms {100 * share:5.1f}%" for ms, share in cells))
    return "\n".join(lines)


def print_costs(models: list[str], args: argparse.Namespace) -> int:
    """Print and draw costs over work of each model; `args` as for `print_profiles`, with out."""
    from tqdm import tqdm

    from fdrn_adapter.timing import speed, work_costs
    from fdrn_adapter.zoo.named import announced

    if speed.checked_device(args.device) != "cpu":
        raise ValueError("--costs measures on the CPU; leave --device out.")
    out = writable_folder(args.out)
    results = {}
    with speed.threads(args.threads):
        for name in models:
            named = announced(name, args.codebase)
            with tqdm(total=work_costs.steps(), desc="measuring", leave=False,
                      disable=not sys.stderr.isatty()) as bar:
                results[name] = work_costs.costs(
                    named.model, named.crop, _engine_of(named.model, args), bar.update
                )
            print(f"\n{name} in {results[name]['engine']}; {speed.Machine.here()}")
            print("\n".join(work_costs.lines(results[name])))
    written = work_costs.write(results, Path(out))
    print(f"\nWritten: {', '.join(map(str, written))}")
    return 0
