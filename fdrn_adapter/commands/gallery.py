"""`fdrn gallery`: masks of trained networks on five photographs, with the clicks drawn."""

import argparse
from pathlib import Path

MODELS = ("distilled-hrnet18s",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn gallery`."""
    parser.description = (
        "Segment five photographs of scikit-image with fixed clicks and draw masks and clicks; "
        "green clicks are on the object, red ones off it."
    )
    parser.epilog = "Example: fdrn gallery --out gallery.jpg"
    parser.add_argument("--models", metavar="A,B", default=",".join(MODELS),
                        help="zoo names with trained weights (default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", default="fdrn_gallery.png",
                        help="picture to write (default: %(default)s)")


def main(args: argparse.Namespace) -> int:
    """Draw the gallery; returns the exit code."""
    from fdrn_adapter.optional import require_matplotlib
    from fdrn_adapter.timing import gallery

    require_matplotlib()
    names = [name.strip() for name in args.models.split(",") if name.strip()]
    gallery.draw(Path(args.out), gallery.masks_of(names))
    print(f"Written: {args.out}")
    return 0
