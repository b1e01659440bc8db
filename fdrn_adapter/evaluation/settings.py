"""The protocols, and what holds for every sample of a run."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

MAX_CLICKS = 20
THRESHOLD = 0.49  # of the paper and the stock script
SPEED = "speed"
TIMED = ("long", SPEED)  # that are there for their times

PROTOCOLS = {
    "noc": "the next click in the middle of the largest mistake: NoC, NoF, mIoU (Table 1)",
    "misleading": "5 of 20 clicks repetitive or false, the same for every model (Table 3)",
    "long": "all clicks, never stopping: average time of a click by number of clicks (Fig. 5)",
    "multi": "every object of an image, the image encoded once",
    SPEED: "no data set: encode and click times at the paper's sizes (Table 2)",
}


@dataclass(frozen=True)
class Settings:
    """What holds for every sample of a run.

    Attributes:
        max_clicks: of a sample.
        target_iou: ends a sample once it is reached; None runs all clicks, as the stock script's
            --iou-analysis does.
        threshold: probability above which a pixel belongs to the mask.
        seed: of the misleading clicks.
    """

    max_clicks: int = MAX_CLICKS
    target_iou: float | None = None
    threshold: float = THRESHOLD
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_clicks < 1:
            raise ValueError(f"--clicks should be at least 1, got {self.max_clicks}.")
        if self.target_iou is not None and not 0 < self.target_iou <= 1:
            raise ValueError(
                f"--target-iou should be above 0 and at most 1 (0.9), got {self.target_iou}."
            )


def parse_protocols(text: str) -> list[str]:
    """The protocols of a comma-separated list.

    Raises:
        ValueError: empty, or unknown.
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise ValueError(f"--protocol is empty; allowed: {', '.join(PROTOCOLS)}.")
    for name in names:
        if name not in PROTOCOLS:
            close = difflib.get_close_matches(name.lower(), PROTOCOLS, 1, 0.5)
            meant = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"Unknown protocol {name!r}.{meant} Allowed: {', '.join(PROTOCOLS)}."
            )
    return names


def refuse_timed(protocols: Sequence[str]) -> None:
    """Refuse protocols whose times would be of samples that run beside each other.

    Raises:
        ValueError: there is one.
    """
    timed = [name for name in protocols if name in TIMED]
    if timed:
        raise ValueError(
            f"--protocol {','.join(timed)} measures times, which say nothing while samples run "
            "beside each other: leave out --jobs and --ray, or run it by itself."
        )
