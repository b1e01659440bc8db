"""`fdrn`: the command line. A subcommand's module is imported when it is asked for."""

import argparse
import difflib
import importlib
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from fdrn_adapter import __version__
from fdrn_adapter.engines.engine import EXACT, FAST, PRECISION_VARIABLE

INTERRUPTED = 130  # what shells report for a process that SIGINT ended

# name -> (module with add_arguments(parser) and main(args) -> exit code, one line of help)
COMMANDS = {
    "demo": (
        "fdrn_adapter.commands.demo",
        "stock RITM and FDRN side by side on a photograph: times, masks, plots",
    ),
    "gallery": ("fdrn_adapter.commands.gallery", "masks of trained networks on five photographs"),
    "benchmark": (
        "fdrn_adapter.commands.benchmark",
        "accuracy and time of FDRNs, stock networks and other methods on evaluation data",
    ),
    "segment": (
        "fdrn_adapter.commands.segment",
        "an object of an image from clicks, as a mask or annotation file",
    ),
    "annotate": (
        "fdrn_adapter.commands.annotate",
        "label a folder of photographs with clicks, on a page in your browser",
    ),
    "serve": (
        "fdrn_adapter.commands.serve",
        "answer annotation tools over HTTP: Label Studio, X-AnyLabeling, your own",
    ),
    "labelme": ("fdrn_adapter.commands.labelme", "start labelme with a network of yours in it"),
    "wrap": ("fdrn_adapter.commands.wrap", "a stock checkpoint as one of its FDRN variant"),
    "complexity": (
        "fdrn_adapter.commands.complexity",
        "parameters and multiply-adds beside the paper's Table 2",
    ),
    "encode": (
        "fdrn_adapter.commands.encode",
        "keep what a frozen image encoder says of images, for training",
    ),
    "train": (
        "fdrn_adapter.commands.train",
        "train or fine-tune on folders of images and masks, without a checkout",
    ),
    "export": (
        "fdrn_adapter.commands.export",
        "write an FDRN as ONNX files, with a program that uses them",
    ),
    "profile": (
        "fdrn_adapter.commands.profile",
        "where the time of a click goes, and what it grows with",
    ),
    "cache": ("fdrn_adapter.commands.cache", "list or delete the compiled graphs that are kept"),
    "zoo": ("fdrn_adapter.commands.zoo", "list the variants that can be built by name"),
    "run": ("fdrn_adapter.launcher", "run a stock script of a checkout on current libraries"),
    "doctor": (
        "fdrn_adapter.commands.doctor",
        "show what a checkout needs patched, and whether it works",
    ),
}
# Errors in a user's script keep their traceback; `fdrn run` reports its own ones itself.
REPORTS_ITSELF = ("run",)

EPILOG = """\
Examples:
  fdrn demo                           on a bundled photograph, writes fdrn_demo/
  fdrn benchmark --models H2-hrnet18s,graphcut --datasets GrabCut=DIR
  fdrn complexity --models H2-hrnet18s
  fdrn run --codebase ritm demo.py --checkpoint=model.pth --cpu

`fdrn COMMAND --help` explains each.
"""


def make_parser(command: str | None) -> argparse.ArgumentParser:
    """The parser; only `command` gets its arguments, since that imports its module."""
    parser = argparse.ArgumentParser(
        prog="fdrn",
        description="FDRN variants of stock RITM networks: encode the image once, recycle its "
        "features for every click.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    parser.add_argument("--debug", action="store_true",
                        help="show the traceback of an error; goes before the command")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        sub = subparsers.add_parser(name, help=text)
        if name == command:
            importlib.import_module(module).add_arguments(sub)
    return parser


@contextmanager
def precision_of_engines(said: str | None) -> Iterator[None]:
    """Let all engines of this process, and of those it starts, know --precision of a command.

    Args:
        said: "exact" or "fast"; anything else is another command's own --precision.
    """
    before = os.environ.get(PRECISION_VARIABLE)
    if said in (EXACT, FAST):
        os.environ[PRECISION_VARIABLE] = said
    try:
        yield
    finally:
        os.environ.pop(PRECISION_VARIABLE, None)
        if before is not None:
            os.environ[PRECISION_VARIABLE] = before


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings as a command's user reads them: what is said, without a line of our source."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"fdrn: warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: arguments without the program's name; those of the process by default.

    Returns:
        the exit code: 0, 2 for an error that the user can mend, 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    words = [word for word in argv if not word.startswith("-")]
    command = words[0] if words and words[0] in COMMANDS else None
    debug = "--debug" in argv[: argv.index(command)] if command else False
    close = difflib.get_close_matches(words[0], COMMANDS, 1, 0.6) if words and not command else []
    if close and argv[0] == words[0]:
        print(f"fdrn: error: there is no command {words[0]!r}; did you mean {close[0]!r}?",
              file=sys.stderr)
        return 2
    try:
        parser = make_parser(command)
        args = parser.parse_args(argv)
        args.command_line = shlex.join(["fdrn", *argv])  # for results that say where they are from
        if args.version:
            return print_version()
        if args.command is None:
            parser.print_help(sys.stderr)
            return 2
        plain = nullcontext() if debug or command in REPORTS_ITSELF else plain_warnings()
        with precision_of_engines(getattr(args, "precision", None)), plain:
            code = importlib.import_module(COMMANDS[args.command][0]).main(args)
        sys.stdout.flush()  # here, where a closed pipe is caught
        return code
    except KeyboardInterrupt:
        print(f"\nfdrn {command or ''}".rstrip() + ": interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, RuntimeError, OSError) as error:
        if debug or command in REPORTS_ITSELF:
            raise
        print(f"fdrn: error: {error}", file=sys.stderr)
        return 2


def print_version() -> int:
    import torch

    print(f"fdrn_adapter {__version__}, torch {torch.__version__}, Python {sys.version.split()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
