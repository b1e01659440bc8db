"""`fdrn export`: an FDRN as ONNX files."""

import argparse

from fdrn_adapter.commands import options
from fdrn_adapter.export import PRECISIONS
from fdrn_adapter.writable import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn export`."""
    parser.description = (
        "Write an FDRN as encoder.onnx (once per image) and decoder.onnx (every click), with "
        "meta.json and a program that uses them with numpy and onnxruntime alone."
    )
    parser.epilog = "Example: fdrn export --model fdrn.pth --out fdrn_onnx"
    parser.add_argument("--model", metavar="M", required=True,
                        help="checkpoint, or the name of a variant of the zoo (fdrn zoo); one "
                             "without trained weights gets random ones")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder, made if needed")
    parser.add_argument("--crop", metavar="N", type=options.crop_side,
                        help="side of the crop in pixels; default: the zoo's, or 288 (RITM), 256")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32",
                        help="fp32 is exact; the others change the result (default: %(default)s)")
    parser.add_argument("--calibrate", metavar="DIR",
                        help="photographs (with masks, see the README) to calibrate int8 on")
    options.add_codebase(parser)
    options.add_seed(parser)


def main(args: argparse.Namespace) -> int:
    """Export; returns the exit code."""
    options.check_networks(args.codebase, [args.model])
    check_writable(args.out)
    from fdrn_adapter.export.files import EXAMPLE, export
    from fdrn_adapter.zoo.named import announced

    named = announced(args.model, args.codebase, args.seed)
    crop = named.crop if args.crop is None else args.crop
    meta = export(named.model, args.out, crop, args.precision, args.calibrate)
    for name, part in meta["files"].items():
        print(f"{args.out}/{name}  {part['bytes'] / 1e6:.1f} MB  sha256 {part['sha256'][:16]}...")
    print(f"largest difference of logits from torch: {meta['logit_difference']:.2g}")
    print(f"try: python {args.out}/{EXAMPLE} {args.out} IMAGE.npy 210,140 40,60,-")
    return 0
