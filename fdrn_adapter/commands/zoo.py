"""`fdrn zoo`: the networks that can be built by name."""

import argparse

from fdrn_adapter.commands.options import DEFAULT_MODEL
from fdrn_adapter.zoo.entries import ZooEntry, info, names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn zoo` (none but --help)."""
    parser.description = (
        "List the networks that can be built by name: the variants of the paper's Table 2 with the "
        "paper's own figures, and those that were trained here."
    )
    parser.epilog = "Example: fdrn zoo"


def main(args: argparse.Namespace) -> int:
    """Print the zoo."""
    head = ("name", "params M", "G mult-adds", "CPU ms", "GPU ms", "crop", "NoC@90 SBD", "DAVIS")
    rows = [head, ("", "F1 / F2", "F1 / F2", "F1 / F2", "F1 / F2", "", "", "")]
    # First what is used where nobody says, then what was trained, then what is to be.
    for name in sorted(names(), key=lambda n: (n != DEFAULT_MODEL, not info(n).weights)):
        entry = info(name)
        pairs = [_pair(entry, f) for f in ("params_m", "macs_g", "cpu_ms", "gpu_ms")]
        noc = [
            "; ".join(f"{clicks[key]:.2f} ({data})" for data, clicks in entry.paper_noc.items())
            for key in ("sbd_90", "davis_90")
        ]
        use = "" if entry.weights else " (untrained)"
        if name == DEFAULT_MODEL:
            use = " (default)"
        rows.append((entry.name + use, *pairs, "x".join(map(str, entry.crop_size)), *noc))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
    print(
        "\nThe figures are the paper's (Tables 1 and 2), measured by its authors, of networks that "
        "were not published; F1 on an image of 481x321.\nThose of the trained networks here: "
        "`fdrn benchmark --models NAME --datasets GrabCut=DIR`, and README.md.\n"
        "Build one with fdrn_adapter.zoo.build(name); `fdrn complexity` counts them."
    )
    return 0


def _pair(entry: ZooEntry, field: str) -> str:
    values = [getattr(f, field) if f else None for f in (entry.paper_encoder, entry.paper_network)]
    return " / ".join("-" if v is None else f"{v:g}" for v in values)
