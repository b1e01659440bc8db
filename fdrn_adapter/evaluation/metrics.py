"""IoU, number of clicks, and what a run of many samples comes to."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fdrn_adapter.label_maps import IGNORE

NOC_AT = (80, 85, 90, 95)  # percent
NOF_AT = (85, 90)
MIOU_AT = (1, 3, 5, 10, 20)  # clicks


def iou(mask: np.ndarray, prediction: np.ndarray) -> float:
    """Intersection over union.

    Args:
        mask: (H, W): 1 the object, -1 what does not count.
        prediction: (H, W) bool.
    """
    counts, target = mask != IGNORE, mask == 1
    intersection = (prediction & target & counts).sum()
    union = ((prediction | target) & counts).sum()
    return float(intersection / union)


def clicks_to_reach(ious: Sequence[float], target: float) -> int | None:
    """The first click, from 1, at which the IoU is `target` or more; None if it never is.

    Compared in single precision, as the stock script does.
    """
    reached = np.asarray(ious, np.float32) >= np.float32(target)
    return int(np.argmax(reached)) + 1 if reached.any() else None


def number_of_clicks(all_ious: Sequence[Sequence[float]], target: float, most: int = 20) -> float:
    """NoC: mean over samples of the clicks needed, `most` where the target was not reached."""
    return float(np.mean([clicks_to_reach(ious, target) or most for ious in all_ious]))


def number_of_failures(all_ious: Sequence[Sequence[float]], target: float) -> int:
    """NoF: samples that never reach the target.

    The stock table's column ">=20" also counts those that reach it at the 20th click; see
    `at_the_limit`.
    """
    return sum(clicks_to_reach(ious, target) is None for ious in all_ious)


def at_the_limit(all_ious: Sequence[Sequence[float]], target: float, most: int = 20) -> int:
    """The stock table's ">=20@90%": samples that take all clicks, whether successful or not."""
    return sum((clicks_to_reach(ious, target) or most) == most for ious in all_ious)


def summary(
    all_ious: Sequence[Sequence[float]], most: int = 20, stopped_at: float | None = None
) -> dict[str, Any]:
    """The accuracy part of a run; what the clicks do not tell is left out.

    Args:
        all_ious: IoU after each click, for each sample.
        most: clicks that a sample could have.
        stopped_at: the target IoU that ended samples early, None if nothing did. Targets above
            it, and means over clicks that some samples did not get, would be wrong.
    """
    if not all_ious:
        return {}
    limit = 100 if stopped_at is None else 100 * stopped_at + 1e-6
    noc = {str(t): number_of_clicks(all_ious, t / 100, most) for t in NOC_AT if t <= limit}
    common = min(map(len, all_ious))
    by_click = np.mean([np.asarray(ious[:common], np.float64) for ious in all_ious], axis=0)
    result = {
        "noc": noc,
        "nof": {str(t): number_of_failures(all_ious, t / 100) for t in NOF_AT if t <= limit},
        "over_max": {
            str(t): at_the_limit(all_ious, t / 100, most) for t in NOC_AT if t <= limit
        },
        "miou": {str(n): float(by_click[n - 1]) for n in MIOU_AT if n <= common},
        "miou_by_click": [float(value) for value in by_click],
    }
    return {key: value for key, value in result.items() if value}
