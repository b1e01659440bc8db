"""`fdrn demo`: stock RITM and FDRN on one photograph, with one click sequence, in one run."""

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from fdrn_adapter import engines, zoo
from fdrn_adapter.commands import demo_report
from fdrn_adapter.images import read_image
from fdrn_adapter.optional import require_matplotlib
from fdrn_adapter.timing import speed
from fdrn_adapter.timing.complexity import chosen
from fdrn_adapter.timing.subjects import Subject, candidates_of
from fdrn_adapter.zoo.named import open_network

MODELS = ("RITM-hrnet32", "RITM-hrnet18", "H2-hrnet18s", "H2-hrnet18")
TRAINED = "lite-fdrn-context"  # its F1 is timm's
MIN_SIDE = 32  # pixels; fewer are not a photograph, and the rois below would not differ

# The woman of scikit-image's `astronaut`, without the helmet: x, y in pixels of 512x512, positive.
_CLICKS = (
    (225, 110, True), (200, 310, True), (390, 430, False), (50, 90, False), (80, 340, True),
    (420, 100, False), (320, 270, True), (180, 60, True), (345, 150, False), (210, 460, True),
    (120, 60, False), (170, 385, True), (440, 310, False), (205, 215, True), (15, 400, False),
    (262, 380, True), (395, 215, False), (130, 250, True), (470, 395, False), (330, 40, False),
)


@dataclass(frozen=True)
class Click:
    """A click in pixels of the photograph; x is the column."""

    x: int
    y: int
    positive: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `fdrn demo`."""
    parser.description = (
        "Run one click sequence on one photograph through stock RITM networks and their FDRN "
        "variants, in turns. Prints times (eq. 6) and ratios beside the paper's; writes "
        "overlay.png (masks and clicks), t_ave.png (eq. 7, the paper's Fig. 5) and demo.json."
    )
    parser.epilog = "Example: fdrn demo --image photo.jpg --out fdrn_demo --threads 2"
    parser.add_argument("--image", metavar="FILE",
                        help="photograph; default: scikit-image's `astronaut`. The clicks were set "
                             "for that one and lie on the same relative places of yours")
    parser.add_argument("--out", metavar="DIR", default="fdrn_demo",
                        help="folder for the results, made if needed (default: %(default)s)")
    parser.add_argument("--codebase", metavar="DIR",
                        help="RITM checkout to build the networks from; default: ritm-annotation")
    parser.add_argument("--models", metavar="A,B",
                        help=f"default: {','.join(MODELS)}, and where timm is installed {TRAINED}, "
                             f"which has trained weights; allowed: {', '.join(zoo.names())}")
    parser.add_argument("--engine", default="auto",
                        help=f"auto, {', '.join(engines.names())}; auto is the fastest that is "
                             "installed (default: %(default)s)")
    parser.add_argument("--stock-engine", metavar="ENGINE",
                        help="of the stock networks (default: that of --engine)")
    parser.add_argument("--threads", metavar="N", type=int, help="default: torch's own choice")
    parser.add_argument("--repeats", metavar="N", type=int, default=speed.REPEATS,
                        help="timed rounds, of which the median counts (default: %(default)s)")
    parser.add_argument("--seed", metavar="N", type=int, default=0,
                        help="of the weights of untrained networks (default: %(default)s)")
    parser.add_argument("--no-plots", action="store_true",
                        help="write demo.json only; matplotlib is then not needed")


def main(args: argparse.Namespace) -> int:
    """Run the demo; returns the exit code."""
    names = chosen(default_models() if args.models is None else args.models)
    out = writable_folder(args.out)
    if not args.no_plots:
        require_matplotlib()
    image, source = photograph(args.image)
    if args.repeats < 1:
        raise ValueError(f"--repeats should be at least 1, got {args.repeats}.")
    with speed.threads(args.threads):
        subjects = [_subject(n, args) for n in names]
        clicks = click_sequence(image)
        with tqdm(desc="measuring", leave=False, disable=not sys.stderr.isatty()) as bar:
            measured = _measure(subjects, image, len(clicks), args.repeats, bar)
            masks = None if args.no_plots else _all_masks(subjects, image, clicks, bar)
    results = {
        "image": {"name": source, "rows": image.shape[0], "cols": image.shape[1]},
        "clicks": [asdict(click) for click in clicks],
        "seed": args.seed,
        **demo_report.collect([zoo.info(n) for n in names], measured, len(clicks)),
        "engine": _engine_names(subjects),
    }
    written = [out / "demo.json"]
    written[0].write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if masks is not None:
        written += [out / "overlay.png", out / "t_ave.png"]
        demo_report.draw_overlay(written[1], image, masks, clicks, results)
        demo_report.draw_average(written[2], results)
    print(demo_report.text(results))
    print("\nWritten: " + ", ".join(map(str, written)))
    return 0


def default_models() -> str:
    """The networks of the paper's comparison, and a trained one where it can be built."""
    trained = [TRAINED] if importlib.util.find_spec("timm") is not None else []
    return ",".join([*MODELS, *trained])


def _subject(name: str, args: argparse.Namespace) -> Subject:
    """Trained if the zoo has weights, else random."""
    model = open_network(name, args.codebase, args.seed).model
    entry = zoo.info(name)
    engine = args.engine if entry.is_fdrn else args.stock_engine or args.engine
    return Subject(name, model, entry.crop_size, engines.resolve(engine, model))


def _engine_names(subjects: list[Subject]) -> str:
    """What ran in which engine, for reports."""
    names = [
        " and ".join(dict.fromkeys(
            "torch eager" if s.engine == "eager" else s.engine
            for s in subjects if s.is_fdrn == is_fdrn
        )) for is_fdrn in (True, False)
    ]
    own, stock = names
    return own or stock if own == stock or not (own and stock) else f"{own}, stock in {stock}"


def photograph(path: str | None) -> tuple[np.ndarray, str]:
    """The image, (H, W, 3) uint8 RGB, and its name for reports.

    Raises:
        ValueError: not an image, too small, or no scikit-image to take the bundled one from.
    """
    if path is None:
        try:
            from skimage import data
        except ImportError as error:
            raise ValueError(
                "The photograph of the demo is scikit-image's, which is not installed: pip install "
                "'fdrn_adapter[plots]', or pass one of yours, --image FILE."
            ) from error
        return data.astronaut(), "scikit-image astronaut"
    image = read_image(path)
    rows, cols = image.shape[:2]
    if min(rows, cols) < MIN_SIDE:
        raise ValueError(
            f"{path} has {cols}x{rows} pixels (columns x rows); the demo takes images of at least "
            f"{MIN_SIDE} pixels on each side."
        )
    return image, Path(path).name


def writable_folder(path: str | os.PathLike) -> Path:
    """Make a folder and see that files can be written there, before anything takes time.

    Raises:
        ValueError: it cannot be made, or not be written to.
    """
    folder = Path(path)
    probe = folder / ".fdrn_write_test"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"--out {path} cannot be written to ({error.strerror}); pass a folder of yours."
        ) from error
    return folder


def click_sequence(image: np.ndarray) -> list[Click]:
    """The fixed clicks, on the same relative places of any image."""
    rows, cols = image.shape[:2]
    return [
        Click(round(x / 511 * (cols - 1)), round(y / 511 * (rows - 1)), positive)
        for x, y, positive in _CLICKS
    ]


# -- time --------------------------------------------------------------------------------------


def _measure(
    subjects: list[Subject], image: np.ndarray, num_clicks: int, repeats: int, bar: tqdm
) -> speed.Measurement:
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
    candidates: dict[str, Callable[[], object]] = {}
    for subject in subjects:
        candidates.update(candidates_of(subject, tensor, num_clicks))
    bar.total = len(candidates) * (repeats + speed.WARMUP)
    return speed.measure(candidates, repeats, progress=lambda name: bar.update())


# -- masks -------------------------------------------------------------------------------------


def _all_masks(
    subjects: list[Subject], image: np.ndarray, clicks: list[Click], bar: tqdm
) -> dict[str, np.ndarray]:
    bar.set_description("masks")
    bar.reset(total=len(subjects) * len(clicks))
    return {s.name: _masks(s, image, clicks, bar.update) for s in subjects}


def _masks(
    subject: Subject, image: np.ndarray, clicks: list[Click], progress: Callable[[], object]
) -> np.ndarray:
    """The mask (H, W) after all clicks, in the stock pipeline, FDRN with its fixed crop."""
    from fdrn_adapter.session.interactive import InteractiveSession

    crop = subject.crop_size[0] if subject.is_fdrn else None
    session = InteractiveSession(subject.model, subject.engine, crop)
    session.set_image(image)
    for click in clicks:
        session.add_click(click.x, click.y, click.positive)
        progress()
    return session.mask
