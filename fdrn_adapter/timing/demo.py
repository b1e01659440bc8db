"""Stock RITM and FDRN side by side: one photograph, one click sequence, in one run."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fdrn_adapter import engines, zoo
from fdrn_adapter.images import read_image
from fdrn_adapter.session.interactive import InteractiveSession
from fdrn_adapter.timing import demo_report, speed
from fdrn_adapter.timing.subjects import Subject, candidates_of
from fdrn_adapter.zoo.named import open_network

MASKS_AFTER = (1, 5)  # clicks, and all of them
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


def subject_of(
    name: str, codebase: str | None, seed: int, engine: str, stock_engine: str | None = None
) -> Subject:
    """A network of the zoo, trained if the zoo has weights, else random.

    Args:
        name: of the zoo.
        codebase, seed: see `open_network`.
        engine: of FDRNs.
        stock_engine: of stock networks, None for that of FDRNs.
    """
    model = open_network(name, codebase, seed).model
    entry = zoo.info(name)
    chosen = engine if entry.is_fdrn else stock_engine or engine
    return Subject(name, model, entry.crop_size, engines.resolve(chosen, model))


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


def click_sequence(image: np.ndarray) -> list[Click]:
    """The fixed clicks, on the same relative places of any image."""
    rows, cols = image.shape[:2]
    return [
        Click(round(x / 511 * (cols - 1)), round(y / 511 * (rows - 1)), positive)
        for x, y, positive in _CLICKS
    ]


def candidates(subjects: list[Subject], image: np.ndarray) -> dict[str, Callable[[], object]]:
    """What is timed, see `candidates_of`.

    Args:
        subjects: networks.
        image: (H, W, 3) uint8 RGB.
    """
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255  # (1, 3, H, W)
    clicks = len(click_sequence(image))
    return {k: v for s in subjects for k, v in candidates_of(s, tensor, clicks).items()}


def results_of(
    subjects: list[Subject], image: np.ndarray, source: str, seed: int, measured: speed.Measurement
) -> dict[str, Any]:
    """What demo.json holds.

    Args:
        subjects, image: as for `candidates`.
        source: the image's name.
        seed: of the weights.
        measured: times of the candidates.
    """
    clicks = click_sequence(image)
    return {
        "image": {"name": source, "rows": image.shape[0], "cols": image.shape[1]},
        "clicks": [asdict(click) for click in clicks],
        "seed": seed,
        **demo_report.collect([zoo.info(s.name) for s in subjects], measured, len(clicks)),
        "engine": engine_names(subjects),
    }


def engine_names(subjects: list[Subject]) -> str:
    """What ran in which engine, for reports."""
    names = [
        " and ".join(dict.fromkeys(
            "torch eager" if s.engine == "eager" else s.engine
            for s in subjects if s.is_fdrn == is_fdrn
        )) for is_fdrn in (True, False)
    ]
    own, stock = names
    return own or stock if own == stock or not (own and stock) else f"{own}, stock in {stock}"


def trained(subjects: list[Subject]) -> set[str]:
    """Names of the networks whose masks mean something."""
    return {s.name for s in subjects if zoo.info(s.name).weights is not None}


def shown(subjects: list[Subject]) -> list[Subject]:
    """The trained networks, or all where none is trained."""
    names = trained(subjects)
    return [s for s in subjects if s.name in names] or subjects


def masks_of(subjects: list[Subject], image: np.ndarray) -> dict[str, dict[int, np.ndarray]]:
    """Masks (H, W) bool after some numbers of clicks; FDRNs with their fixed crop.

    Of the trained networks, where there are any: the mask of a random one is meaningless.

    Args:
        subjects, image: as for `candidates`.
    """
    clicks, masks = click_sequence(image), {}
    last = len(clicks)
    for subject in shown(subjects):
        crop = subject.crop_size[0] if subject.is_fdrn else None
        session = InteractiveSession(subject.model, subject.engine, crop)
        session.set_image(image)
        after = [session.add_click(c.x, c.y, c.positive) for c in clicks]
        masks[subject.name] = {n: after[n - 1] for n in (*MASKS_AFTER, last) if n <= last}
    return masks
