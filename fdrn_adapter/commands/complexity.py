"""`fdrn complexity`: parameters and multiply-adds beside the paper's Table 2."""

import argparse
import json
import sys
from dataclasses import asdict

from fdrn_adapter.commands import options
from fdrn_adapter.zoo.entries import chosen, info, paper_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn complexity`."""
    parser.description = (
        "Count parameters and multiply-adds of the image encoder (F1) and of the network that "
        "runs at every click (F2), beside the figures of the paper's Table 2."
    )
    parser.epilog = "Example: fdrn complexity --models H2-hrnet18s,RITM-hrnet18"
    options.add_codebase(
        parser, "RITM or ClickSEG checkout to build its networks from; the others come from what "
        "is installed (ritm-annotation), or are skipped",
    )
    parser.add_argument("--models", metavar="A,B", default=None,
                        help=f"default: all of {', '.join(paper_names())}")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def main(args: argparse.Namespace) -> int:
    """Print the table, or JSON; returns the exit code (1 if nothing could be built)."""
    models = chosen(args.models)
    options.check_networks(args.codebase, models)
    from tqdm import tqdm

    from fdrn_adapter import zoo
    from fdrn_adapter.timing import complexity

    results, skipped = [], []
    for name in tqdm(models, "counting", leave=False,
                     disable=not sys.stderr.isatty()):
        try:
            results.append(complexity.measure(name, zoo.codebase_for(name, args.codebase)))
        except zoo.NoCodeBaseError as error:
            skipped.append(f"skipped: {error}")
    for line in skipped:  # apart from the table, which may be read by a program
        print(line, file=sys.stderr)
    if not results:
        return 1
    if args.json:
        paper = {r.name: info(r.name) for r in results}
        print(json.dumps([
            {
                **asdict(r),
                "paper_encoder": paper[r.name].paper_encoder
                and asdict(paper[r.name].paper_encoder),
                "paper_network": paper[r.name].paper_network
                and asdict(paper[r.name].paper_network),
            }
            for r in results
        ], indent=2))
        return 0
    print(complexity.table(results))
    print()
    print(complexity.notes(results))
    return 0
