"""`fdrn doctor`: what a checkout needs on this machine, patch by patch."""

import argparse
import atexit
import gc
import json
import sys
from typing import Any

from fdrn_adapter.commands import options

NARROW, WIDE = 28, 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn doctor`."""
    parser.description = ("Show which patches a RITM or FocalClick checkout needs with the "
                          "libraries installed here. Exit code 0: everything can run.")
    options.add_codebase(
        parser, "root of the checkout, or ritm_annotation for the installed package", required=True
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def show(report: dict[str, Any]) -> None:
    """Print the report as tables."""
    print(f"{report['kind']} at {report['codebase']} (package {report['package']})")
    print("  " + ", ".join(f"{k} {v}" for k, v in report["versions"].items()))
    print(f"  {report['device']}")
    print(f"\n{'patch':{NARROW}} {'state':{WIDE}} why")
    for patch in report["patches"]:
        print(f"{patch['name']:{NARROW}} {patch['state']:{WIDE}} {patch['detail']}")
    if report["paths"]:
        print(f"\n{'config.yml':{NARROW}} {'exists':{WIDE}} path (--set KEY=PATH overrides)")
    for entry in report["paths"]:
        exists = "yes" if entry["exists"] else "no"
        print(f"{entry['key'].split('.')[-1]:{NARROW}} {exists:{WIDE}} {entry['path']}")
    print()
    for name, text in report["import_failures"].items():
        print(f"cannot import {name}: {text}")
    if report["missing_libraries"]:
        print("missing libraries: pip install " + " ".join(report["missing_libraries"]))
    print("everything can run" if report["can_run"] else "not everything can run, see above")


def main(args: argparse.Namespace) -> int:
    """Print the report; 0 when everything can run, 1 when not, 2 for wrong arguments."""
    from fdrn_adapter.checkup import examine

    sys.dont_write_bytecode = True
    # What a checkout imports is half a million objects; at its end the interpreter would search
    # them for cycles, several times. Nothing here is open or half written.
    atexit.register(gc.freeze)
    try:
        report = examine(args.codebase)
    except (ValueError, RuntimeError) as error:
        print(f"fdrn doctor: {error}", file=sys.stderr)
        return 2
    if args.json:
        json.dump(report, sys.stdout, indent=2)
        print()
    else:
        show(report)
    return 0 if report["can_run"] else 1


if __name__ == "__main__":
    own_parser = argparse.ArgumentParser(prog="fdrn doctor")
    add_arguments(own_parser)
    sys.exit(main(own_parser.parse_args()))
