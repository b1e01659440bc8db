"""`fdrn wrap`: the checkpoint of a stock network becomes one of its FDRN variant."""

import argparse
import shlex
from pathlib import Path

from fdrn_adapter.close_names import close_paths, did_you_mean
from fdrn_adapter.commands import options
from fdrn_adapter.writable import check_new_file
from fdrn_adapter.zoo.entries import info, names

NUMBERS = (
    "b_low", "b_mid", "b_high", "b_low_tilde", "b_mid_tilde", "b_high_tilde", "context_channels",
    "encoder_max_side",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn wrap`."""
    parser.description = (
        "Turn a stock RITM or FocalClick checkpoint into its FDRN variant. With --init identity it "
        "computes what the stock network computes until it is trained."
    )
    parser.epilog = "Example: fdrn wrap coco_lvis_h18_itermask.pth fdrn.pth --encoder hrnet18s"
    parser.add_argument("stock", metavar="STOCK.pth", help="checkpoint of a stock network")
    parser.add_argument("out", metavar="OUT.pth", help="file to write; its folder must exist")
    parser.add_argument("--init", choices=("identity", "paper"), default="identity",
                        help="how the new modules start (default: %(default)s)")
    parser.add_argument("--encoder", metavar="E",
                        help="hrnet18, hrnet18s, segformer_b0, segformer_b1, timm:NAME, "
                             "distilled_lite0 or onnx:FILE")
    parser.add_argument("--encoder-weights", metavar="W",
                        help="file, 'pretrained', or a package with weights; default: the host's")
    for name in NUMBERS:
        parser.add_argument("--" + name.replace("_", "-"), metavar="N", type=int,
                            help="as of fdrn_adapter.wrap")
    parser.add_argument("--use-mid", action="store_true", help="recycle f_mid (stride 8) too")
    parser.add_argument("--affinity", choices=("gather", "literal"), default="gather",
                        help="direction of the paper's eq. 4 (default: %(default)s)")
    parser.add_argument("--value-channels", metavar="N", type=_width, default=256,
                        help="of eq. 4's values, or 'host' for as many as the host has "
                             "(default: %(default)s)")
    parser.add_argument("--shortcut-kernel", type=int, choices=(1, 3), default=3,
                        help="of the shortcuts in SFI and TFI (default: %(default)s)")
    parser.add_argument("--norms", action="store_true", help="batch norms in SFI and TFI")
    parser.add_argument("--freeze-encoder", action="store_true", help="never train F1's backbone")
    parser.add_argument("--half", action="store_true", help="store weights in half precision")
    options.add_codebase(parser)


def main(args: argparse.Namespace) -> int:
    """Wrap; returns the exit code."""
    stock, out = Path(args.stock), Path(args.out)
    options.check_networks(args.codebase)
    _check_stock(stock)
    options.check_encoder(args.encoder, required=False)
    _check_weights(args.encoder_weights)
    check_new_file(out, str(out))
    if out.exists() and out.samefile(stock):
        raise ValueError(f"{out} is the stock checkpoint itself; write to another file.")

    import fdrn_adapter
    from fdrn_adapter.hosts.catalogue import is_fdrn
    from fdrn_adapter.zoo.named import open_network

    numbers = {name: getattr(args, name) for name in NUMBERS if getattr(args, name) is not None}
    host = open_network(str(stock), args.codebase).model
    if is_fdrn(host):
        raise ValueError(f"{stock} holds an FDRN already. {_used_as_it_is(str(stock))}")
    model = fdrn_adapter.wrap(
        host, encoder=args.encoder, init=args.init, encoder_weights=args.encoder_weights,
        freeze_encoder=args.freeze_encoder, use_mid=args.use_mid, affinity=args.affinity,
        value_channels=args.value_channels, shortcut_kernel=args.shortcut_kernel,
        norms=args.norms, copy=False, **numbers,
    )
    fdrn_adapter.save(model, out, half=args.half)
    print(f"{out}: {model.extra_repr()}; {out.stat().st_size / 1e6:.1f} MB")
    if model.encoder_source == "random":
        print("Its image encoder has random weights, and its answers stay the stock network's "
              "until it is trained (docs/training.md); --encoder-weights starts it from a file.")
    return 0


def _check_stock(stock: Path) -> None:
    """See that there is a file, before anything slow is imported."""
    if stock.is_file():
        return
    if str(stock) in names():
        use = f" {_used_as_it_is(str(stock))}" if info(str(stock)).is_fdrn else ""
        raise ValueError(
            f"{stock} is a name of the zoo, and wrap takes the file of a stock checkpoint.{use}"
        )
    if stock.is_dir():
        inside = did_you_mean(str(p) for p in sorted(stock.glob("*.pth")))
        raise ValueError(f"{stock} is a folder; pass the file of a stock checkpoint.{inside}")
    close = did_you_mean(close_paths(stock))
    raise ValueError(f"There is no checkpoint {stock}.{close}")


def _check_weights(weights: str | None) -> None:
    """See that a file of weights is there, as `_check_stock`; other words are left to `wrap`."""
    path = Path(weights or "")
    if (path.suffix or len(path.parts) > 1) and not path.is_file():
        raise ValueError(
            f"--encoder-weights: there is no file {weights}.{did_you_mean(close_paths(path))}"
        )


def _used_as_it_is(network: str) -> str:
    """What can be done with a network that need not be wrapped."""
    name = shlex.quote(network)
    return (
        f"There is nothing to wrap: use it as it is, `fdrn segment IMAGE --model {name} ...`, "
        f"`fdrn annotate DIR --model {name}` or `fdrn benchmark --models {name} ...`; `fdrn train "
        f"--model {name} --data DIR` goes on training it. Another FDRN is made from the stock "
        "network's own checkpoint."
    )


def _width(text: str) -> int | None:
    if text == "host":
        return None
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number of channels or 'host', got {text!r}")
    return int(text)
