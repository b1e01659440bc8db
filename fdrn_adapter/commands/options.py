"""Arguments that several commands have, declared once."""

import argparse
from collections.abc import Iterable

from fdrn_adapter import codebase as code_bases
from fdrn_adapter.encoders import onnx_file
from fdrn_adapter.engines.choice import names
from fdrn_adapter.engines.engine import EXACT, FAST
from fdrn_adapter.zoo.entries import check_source

DEFAULT_MODEL = "distilled-hrnet18s"
CROP_SIDES = 32, 4096  # least and largest, pixels


def add_codebase(
    parser: argparse.ArgumentParser,
    text: str = "RITM or FocalClick checkout for networks of isegm; default: ritm-annotation",
    required: bool = False,
) -> None:
    """--codebase DIR."""
    parser.add_argument("--codebase", metavar="DIR", help=text, required=required)


def check_networks(codebase: str | None, sources: Iterable[str | None] = ()) -> None:
    """See that a checkout and networks are there, before anything is imported, read or written.

    Args:
        codebase: as given to --codebase.
        sources: as given to --model; those that are None were not.

    Raises:
        ValueError: one is not there; what looks like it is named.
    """
    if codebase is not None:
        code_bases.check(codebase)
    for source in sources:
        if source is not None:
            check_source(source)


def check_encoder(encoder: str | None, required: bool = True) -> None:
    """See that the file of `--encoder onnx:FILE` is there, as `check_networks` does.

    Args:
        encoder: as given to --encoder.
        required: whether images will be encoded, so that "onnx:" alone needs its variable.

    Raises:
        ValueError: it is not there; what looks like it is named.
    """
    if encoder is None or not encoder.startswith(onnx_file.PREFIX):
        return
    if onnx_file.file_of(encoder) is None and required:
        raise ValueError(
            f"--encoder onnx: is the file of the variable {onnx_file.VARIABLE}, which is not set; "
            "set it, or write --encoder onnx:FILE."
        )


def add_engine(
    parser: argparse.ArgumentParser, default: str | None = "auto", note: str = "default: auto"
) -> None:
    """--engine E, and --precision P, which `cli.main` makes known to all engines."""
    parser.add_argument("--engine", metavar="E", default=default,
                        help=f"that runs the networks: auto, the fastest for their device that is "
                             f"installed, {', '.join(names())} ({note})")
    parser.add_argument("--precision", choices=(EXACT, FAST),
                        help="fast: fewer bits where masks stay the same and the processor or GPU "
                             "is faster with them (default: what FDRN_PRECISION says, else exact)")


def add_stock_engine(
    parser: argparse.ArgumentParser, default: str | None = None, note: str = "default: that one"
) -> None:
    """--stock-engine E."""
    parser.add_argument("--stock-engine", metavar="E", default=default,
                        help=f"of the stock networks, allowed as for --engine ({note})")


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model M and --crop N, of what a network is asked for."""
    parser.add_argument("--model", metavar="M", default=DEFAULT_MODEL,
                        help="checkpoint, or a name of the zoo (default: %(default)s)")
    parser.add_argument("--crop", metavar="N", type=crop_side,
                        help="side of the crop in pixels (default: what the network was trained "
                             "for)")


def crop_side(text: str) -> int:
    """A side that a network can be shown, before torch is imported to refuse another one."""
    if not text.isdigit() or not CROP_SIDES[0] <= int(text) <= CROP_SIDES[1]:
        raise argparse.ArgumentTypeError(
            f"a crop has a side of {CROP_SIDES[0]} to {CROP_SIDES[1]} pixels; got {text!r}"
        )
    return int(text)


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device D."""
    parser.add_argument("--device", metavar="D", default="cpu",
                        help="where the networks are: cpu, cuda (default: %(default)s)")


def add_threads(parser: argparse.ArgumentParser) -> None:
    """--threads N."""
    parser.add_argument("--threads", metavar="N", type=int, help="default: torch's own choice")


def add_seed(parser: argparse.ArgumentParser, of: str = "untrained networks' weights") -> None:
    """--seed N."""
    parser.add_argument("--seed", metavar="N", type=int, default=0,
                        help=f"of {of} (default: %(default)s)")


def add_workers(
    parser: argparse.ArgumentParser, what: str, default: str, *aliases: str, files: str
) -> None:
    """--jobs N and --ray [ADDRESS]; `what` is worked on, all machines have to see `files`."""
    parser.add_argument("--jobs", *aliases, dest="jobs", metavar="N", type=int,
                        help=f"{what} beside each other in N processes of one thread each "
                             f"(default: {default})")
    parser.add_argument("--ray", metavar="ADDRESS", nargs="?", const="",
                        help=f"{what} as tasks of a Ray cluster: the one at HOST:PORT or "
                             "ray://HOST:PORT; without ADDRESS the one at hand, else this machine "
                             "alone. What a lost machine had begun is done again. All machines "
                             f"have fdrn_adapter and see {files} under the same paths")


def add_data(parser: argparse.ArgumentParser, more: str = "") -> None:
    """--data D, what to train on."""
    parser.add_argument(
        "--data", metavar="D", required=True,
        help="comma-separated: DIR with images/ and masks/ (one object each: above 128, or 1; 128 "
             "is ignored) or instances/ (a value or colour for each object); FILE.json or "
             "FILE.json=DIR, COCO annotations and the folder of their images; NAME=DIR, a layout "
             "of fdrn benchmark" + more,
    )
