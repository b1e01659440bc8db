"""`fdrn profile`: where the time of a click goes, and what it grows with."""

import argparse

import torch

from fdrn_adapter import engines
from fdrn_adapter.timing import speed
from fdrn_adapter.timing.click_profile import _PRINTED, REPEATS, ROIS, Part, profile
from fdrn_adapter.zoo.named import announced


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn profile`."""
    parser.description = (
        "Time the parts of a click, or with --costs whole interactions over the number of clicks, "
        "objects and pixels."
    )
    parser.epilog = "Example: fdrn profile --models H2-hrnet18s --engine openvino --threads 2"
    parser.add_argument("--models", metavar="A,B", default="H2-hrnet18s",
                        help="variants of the zoo, or checkpoints (default: %(default)s)")
    parser.add_argument("--engine", default="auto",
                        help=f"auto, {', '.join(engines.names())} (default: %(default)s)")
    parser.add_argument("--device", metavar="D", default="cpu",
                        help="where the networks are: cpu, cuda (default: %(default)s)")
    parser.add_argument("--threads", metavar="N", type=int, help="default: torch's own choice")
    parser.add_argument("--codebase", metavar="DIR", help="checkout to build the networks from")
    parser.add_argument("--costs", action="store_true",
                        help="cost over work instead; writes costs.json and costs.png")
    parser.add_argument("--out", metavar="DIR", default="fdrn_costs",
                        help="folder for --costs (default: %(default)s)")


def main(args: argparse.Namespace) -> int:
    """Run `fdrn profile`."""
    names = [name.strip() for name in args.models.split(",") if name.strip()]
    if not args.costs:
        return main_profile(names, args)
    if checked_device(args.device) != "cpu":
        raise ValueError("--costs measures on the CPU; leave --device out.")
    from fdrn_adapter.timing import work_costs

    return work_costs.main_costs(names, args)


def main_profile(models: list[str], args: argparse.Namespace) -> int:
    """Print the profile of each model; `args` has threads, engine, device and codebase."""
    with speed.threads(args.threads):
        for name in models:
            named = announced(name, args.codebase)
            model, crop = named.model.to(checked_device(args.device)), named.crop
            engine = engines.resolve(args.engine or "auto", model)
            for kind in dict.fromkeys(("eager", engine)):
                title = "eager torch, by hooks" if kind == "eager" else kind
                print(f"\n{name}, {title}; {speed.Machine.here()}; median of {REPEATS}")
                print(_table({
                    label: profile(model, crop, kind, new_roi) for new_roi, label in ROIS.items()
                    if not new_roi or getattr(model, "with_prev_mask", False)
                }))
    return 0


def checked_device(name: str) -> str:
    """A device of torch that is there.

    Raises:
        ValueError: no such device, or none here.
    """
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise ValueError(f"--device {name}: {error}") from None
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"--device is cpu, cuda or cuda:N, got {name!r}.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"--device {name}: torch {torch.__version__} sees no CUDA GPU here. Leave it out, or "
            "pass cpu."
        )
    return name


def _table(columns: dict[str, list[Part]]) -> str:
    """The parts of a click in one column of times and shares for each kind of click."""
    names = dict.fromkeys(name for rows in columns.values() for name, *_ in rows)
    found = {label: {name: rest for name, *rest in rows} for label, rows in columns.items()}
    lines = [" " * 36 + "".join(f"{label:>18s}" for label in columns)]
    for name in sorted(names, key=lambda n: _PRINTED.index(n)):
        cells = [found[label].get(name, (0.0, 0.0)) for label in columns]
        lines.append(f"  {name:34s}" + "".join(
            f"{ms:8.1f} ms {100 * share:5.1f}%" for ms, share in cells))
    return "\n".join(lines)
