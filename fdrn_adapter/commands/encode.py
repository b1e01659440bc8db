"""`fdrn encode`: embeddings of a frozen image encoder, once for all trainings."""

import argparse
import os

from fdrn_adapter.commands import options
from fdrn_adapter.writable import writable_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn encode`."""
    parser.description = (
        "Compute what a frozen image encoder says of each image and keep it in memory-mapped files "
        "of half precision, for `fdrn train --features`. An interrupted run goes on where it was."
    )
    parser.epilog = "Example: fdrn encode --encoder distilled_lite0 --data DIR --out features"
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", metavar="M", help="zoo name or checkpoint whose encoder to use")
    which.add_argument("--encoder", metavar="E",
                       help="distilled_lite0 or onnx:FILE (alone: the file of FDRN_SAM_ENCODER)")
    options.add_data(parser, "; or a folder of images alone")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder, made if needed")
    options.add_workers(parser, "images", f"{_processors()}, one a processor", "--processes",
                        files="--data and --out")
    parser.add_argument("--check", action="store_true",
                        help="read everything afterwards and compare checksums")


def _processors() -> int:
    return os.cpu_count() or 1


def main(args: argparse.Namespace) -> int:
    """Encode; returns the exit code: 1 where an image could not be read or a file is damaged."""
    options.check_networks(None, [args.model])
    options.check_encoder(args.encoder)
    out = writable_folder(args.out)
    from fdrn_adapter.evaluation.datasets.for_training import open_images
    from fdrn_adapter.training.batched import embeddings, encoding
    from fdrn_adapter.workers import Workers

    jobs = args.jobs if args.jobs is not None else 1 if args.ray is not None else _processors()
    workers = Workers(jobs, args.ray)
    workers.check()
    encoder = encoding.encoder_of_network(args.model) if args.model else \
        embeddings.embedding_encoder(args.encoder)
    images = open_images(args.data)
    bad = encoding.encode(encoder, images, out, workers, print)
    print(f"{len(images) - len(bad)} of {len(images)} images are in {out}")
    for line in bad:
        print(f"left out: {line}")
    if args.check:
        damaged = embeddings.Embeddings(out, encoder).check()
        print(f"damaged: {', '.join(damaged)}" if damaged else "all checksums are right")
        bad += damaged
    return 1 if bad else 0
