"""`fdrn train`: a network trained on folders of images and masks, without any checkout."""

import argparse
import functools
import os
from pathlib import Path

from fdrn_adapter.commands import options
from fdrn_adapter.writable import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn train`."""
    parser.description = (
        "Train an FDRN, or a stock network as control, on images with masks. The plan is printed "
        "first; Ctrl-C writes the training state, and --resume goes on from it to the step."
    )
    parser.epilog = (
        "Examples: fdrn train --data DIR --model distilled-hrnet18s --out run   (fine-tune)\n"
        "  fdrn train --data DIR,FILE.json=DIR --encoder onnx:encoder.onnx --out run"
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_data(parser)
    _add_network(parser)
    _add_plan(parser)
    group = parser.add_argument_group("this run")
    group.add_argument("--out", metavar="DIR", default="fdrn_train",
                       help="folder of state, checkpoint and record (default: %(default)s)")
    group.add_argument("--resume", action="store_true", help="go on from the state in --out")
    group.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    group.add_argument("--features", metavar="DIR",
                       help="embeddings of `fdrn encode` (default: written to --out/embeddings)")
    group.add_argument("--processes", metavar="N", type=int, default=1,
                       help="of one thread each, with averaged gradients (default: %(default)s); "
                            "torchrun works too")
    options.add_device(group)
    group.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto",
                       help="auto: bf16 autocast where the device is fast at it")
    group.add_argument("--save-every", metavar="S", type=float, default=180.0,
                       help="seconds between training states (default: %(default)g)")
    group.add_argument("--log-every", metavar="S", type=float, default=20.0,
                       help="seconds between lines (default: %(default)g)")


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument("--model", metavar="M", help="zoo name or checkpoint to go on from")
    group.add_argument("--encoder", metavar="E",
                       help="of a new network: distilled_lite0 (default), onnx:FILE, hrnet18s, "
                            "timm:NAME ..., or none for the stock network (a control)")
    group.add_argument("--host", metavar="H", default="hrnet18s",
                       help="of a new network: hrnet18s (default), hrnet18 or hrnet32")
    options.add_codebase(parser)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    """The defaults are those of `Plan`, which would import torch; a test compares them."""
    group = parser.add_argument_group("plan")
    group.add_argument("--samples", metavar="N", type=int,
                       help="crops to learn from (default: 300000, of --model 20000)")
    group.add_argument("--sizes", "--crop", metavar="S", default="128:.6,192:.25,256:.15",
                       help="sides of the crops in pixels and their shares of the samples "
                            "(default: %(default)s); 192 for one size")
    group.add_argument("--batch", metavar="N", type=int, default=16,
                       help="crops in a step of the first size (default: %(default)s)")
    group.add_argument("--crops-each", metavar="N", type=int, default=2,
                       help="crops from each picture that is loaded (default: %(default)s)")
    group.add_argument("--lr", metavar="X", type=float,
                       help="highest learning rate (default: 0.0015, of --model 0.0003)")
    group.add_argument("--shares", metavar="X,X",
                       help="of the samples, of each data set (default: by their pictures)")
    group.add_argument("--min-share", metavar="X", type=float, default=0.004,
                       help="of the picture that an object covers at least (default: %(default)g)")
    group.add_argument("--clicked", metavar="W", type=float, default=0.5,
                       help="weight of the cross entropy under the clicks (default: %(default)g)")
    options.add_seed(parser, "everything")


def main(args: argparse.Namespace) -> int:
    """Train; returns the exit code, 130 after Ctrl-C."""
    options.check_networks(args.codebase, [args.model])
    options.check_encoder(args.encoder)
    if not args.dry_run:
        check_writable(args.out)
    from fdrn_adapter.evaluation.datasets.for_training import open_pictures
    from fdrn_adapter.training.batched.job import Job
    from fdrn_adapter.training.batched.plan import Plan, parse_sizes

    if args.model and args.encoder:
        raise ValueError("--model names a network with its encoder; leave out --encoder.")
    together = int(os.environ.get("WORLD_SIZE", "1"))
    if together > 1 and args.processes > 1:
        raise ValueError("torchrun starts the processes; leave out --processes.")
    defaults = Plan.fine() if args.model else Plan()
    plan = Plan(
        samples=defaults.samples if args.samples is None else args.samples,
        sizes=parse_sizes(args.sizes), batch=args.batch, crops=args.crops_each,
        lr=defaults.lr if args.lr is None else args.lr, seed=args.seed,
        clicked=args.clicked,
    )
    job = Job(
        pictures=open_pictures(args.data), plan=plan, out=Path(args.out), model=args.model,
        encoder=args.encoder or "distilled_lite0", host=args.host, codebase=args.codebase,
        features=args.features and Path(args.features), count=max(together, args.processes),
        device=args.device, precision=args.precision, resume=args.resume,
        shares=args.shares and tuple(map(float, args.shares.split(","))),
        min_share=args.min_share, save_s=args.save_every, log_s=args.log_every,
        command=args.command_line, say=functools.partial(print, flush=True),
    )
    for line in job.described():
        print(line)
    return 0 if args.dry_run else job.run()
