"""`fdrn gallery`: masks of trained networks on five photographs, with the clicks drawn."""

import argparse
from pathlib import Path

from fdrn_adapter.commands import options

MODELS = ("distilled-hrnet18s",)
SUFFIXES = (".png", ".jpg", ".jpeg", ".pdf", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn gallery`."""
    parser.description = (
        "Segment five photographs of scikit-image with fixed clicks and draw masks and clicks; "
        "green clicks are on the object, red ones off it."
    )
    parser.epilog = "Example: fdrn gallery --out gallery.jpg"
    parser.add_argument("--clicks", metavar="N,M",
                        help="three of them instead, side by side after so many clicks: 1,3,5")
    parser.add_argument("--models", metavar="A,B", default=",".join(MODELS),
                        help="zoo names with trained weights (default: %(default)s)")
    parser.add_argument("--out", metavar="FILE", default="fdrn_gallery.png",
                        help="picture to write (default: %(default)s)")


def main(args: argparse.Namespace) -> int:
    """Draw the gallery; returns the exit code."""
    names = [name.strip() for name in args.models.split(",") if name.strip()]
    options.check_networks(None, names)
    from fdrn_adapter.optional import require_matplotlib
    from fdrn_adapter.timing import gallery
    from fdrn_adapter.writable import writable_folder

    require_matplotlib()
    out = Path(args.out)
    writable_folder(out.parent)
    if out.is_dir() or out.suffix.lower() not in SUFFIXES:
        raise ValueError(
            f"--out {out} should be a picture's file, with one of the endings {', '.join(SUFFIXES)}"
        )
    if args.clicks is not None:
        return draw_stages(names, numbers_of(args.clicks), args.out)
    gallery.draw(out, gallery.masks_of(names))
    print(f"Written: {args.out}")
    return 0


def numbers_of(text: str) -> list[int]:
    """The numbers in 1,3,5."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"--clicks takes numbers such as 1,3,5; got {text}.") from None


def draw_stages(names: list[str], after: list[int], out: str) -> int:
    """Draw the masks of one network after some numbers of clicks; returns the exit code."""
    from fdrn_adapter.timing import gallery
    from fdrn_adapter.zoo.named import open_network

    if len(names) != 1:
        raise ValueError(f"--clicks shows one network, got --models {','.join(names)}.")
    named = open_network(names[0])
    gallery.draw_stages(Path(out), gallery.stages(named.model, named.crop, after), after)
    print(f"Written: {out}")
    return 0
