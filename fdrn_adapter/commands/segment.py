"""`fdrn segment`: one object of one image, from clicks on the command line."""

import argparse
import re
from pathlib import Path

from fdrn_adapter.commands import options
from fdrn_adapter.writable import check_new_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn segment`."""
    parser.description = "Segment an object of an image from clicks, a box, or a mask to correct."
    parser.epilog = (
        "Example: fdrn segment cat.jpg --click 210,140 --click -40,60 --out cat.png"
    )
    # So that argparse takes -40,60 for a value.
    parser._negative_number_matcher = re.compile(r"-[\d.]+,")
    parser.add_argument("image", metavar="IMAGE", help="picture to segment")
    parser.add_argument("--click", metavar="[-]X,Y", type=click_of, action="append", default=[],
                        help="pixel on the object (column, row), or with a minus before it off the "
                             "object; as many as you like, in their order")
    parser.add_argument("--box", metavar="X1,Y1,X2,Y2", type=box_of,
                        help="box around the object, made before the clicks")
    parser.add_argument("--mask", metavar="FILE", help="mask to start from; 0 is background")
    parser.add_argument("--out", metavar="FILE", required=True,
                        help="mask.png (0 and 255), or a .json file")
    parser.add_argument("--format", choices=("coco", "labelme"), default="coco",
                        help="of a .json file (default: %(default)s)")
    parser.add_argument("--label", default="object", help="of a .json file (default: %(default)s)")
    options.add_model(parser)
    options.add_engine(parser)
    options.add_codebase(parser)


def click_of(text: str) -> tuple[float, float, bool]:
    """x, y and whether it is positive, of a click as written."""
    positive = not text.startswith("-")
    try:
        x, y = (float(v) for v in text.removeprefix("-").split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"a click is X,Y or -X,Y in pixels, such as 210,140; got {text!r}"
        ) from None
    return x, y, positive


def box_of(text: str) -> tuple[float, ...]:
    """The corners of a box as written."""
    try:
        x1, y1, x2, y2 = (float(v) for v in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"a box is X1,Y1,X2,Y2 in pixels, such as 20,30,200,180; got {text!r}"
        ) from None
    return x1, y1, x2, y2


def main(args: argparse.Namespace) -> int:
    """Segment; returns the exit code."""
    options.check_networks(args.codebase, [args.model])
    from fdrn_adapter.click_places import nearest_pixel
    from fdrn_adapter.images import read_image

    out = Path(args.out)
    if out.suffix.lower() not in (".png", ".json"):
        raise ValueError(f"--out is a .png or a .json file, got {args.out}.")
    check_new_file(out, f"--out {args.out}")
    if not (args.click or args.box or args.mask):
        raise ValueError("Say where the object is: --click X,Y, --box X1,Y1,X2,Y2 or --mask FILE.")
    if args.box and args.mask:
        raise ValueError("Start from --box or from --mask, not from both.")
    image = read_image(args.image)
    for x, y, _ in args.click:  # before torch and a network are loaded
        nearest_pixel(x, y, image.shape[:2])
    session = _segmented(args, image)
    _write(args, out, session)
    mask = session.mask
    print(f"{out}  {int(mask.sum())} of {mask.size} pixels, score {session.score:.3f}")
    return 0


def _segmented(args: argparse.Namespace, image):
    from fdrn_adapter.images import read_image
    from fdrn_adapter.session import InteractiveSession
    from fdrn_adapter.zoo.named import announced

    named = announced(args.model, args.codebase)
    session = InteractiveSession(named.model, args.engine, args.crop)
    session.set_image(image)
    if args.mask:
        session.set_mask(read_image(args.mask).max(axis=2) > 0)
    if args.box:
        session.set_box(*args.box)
    session.add_clicks(args.click)
    return session


def _write(args: argparse.Namespace, out: Path, session) -> None:
    from fdrn_adapter.serving import outputs

    mask, name = session.mask, Path(args.image).name
    objects = [outputs.NamedMask(args.label, mask, session.score)]
    if out.suffix.lower() == ".png":
        content = outputs.mask_png(mask)
    elif args.format == "coco":
        content = outputs.coco_document([(name, mask.shape, objects)])
    else:
        content = outputs.labelme_document(name, mask.shape, objects)
    outputs.write_output(out, content)
