"""Pictures of the best, the median and the worst sample of every run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.evaluation.reports import naming

AT_CLICKS = 5  # samples are ranked by their IoU there, and drawn with that many clicks
THRESHOLD = 0.49  # of the stock evaluation
FOUND, TRUTH = "#00E5FF", "white"
POSITIVE, NEGATIVE = "lime", "red"  # as in the paper's Fig. 4
FOLDER = "pictures"


def draw(
    results: dict[str, Any],
    out_dir: str | Path,
    load_sample: Callable[[str, Any], tuple[np.ndarray, np.ndarray]],
    replay: Callable[[str, np.ndarray, list], np.ndarray],
) -> list[Path]:
    """Draw mask and clicks of three samples of every run that has samples.

    Args:
        results: what results.json holds.
        out_dir: the pictures go into its folder `pictures`.
        load_sample: (data set, sample id) -> image (H, W, 3) uint8 RGB and mask (H, W), 1 for the
            object.
        replay: (model, image, clicks [x, y, positive]) -> probability (H, W) after the last click.

    Returns:
        one PNG for each run, in their order.
    """
    runs = results["runs"]
    paths = []
    for label, run in zip(naming.labels(runs), runs, strict=True):
        chosen = choose(run.get("samples", []))
        if not chosen:
            continue
        path = Path(out_dir) / FOLDER / (
            naming.file_name(run["protocol"], run["dataset"], label) + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        panels = []
        for rank, sample in chosen.items():
            image, mask = load_sample(run["dataset"], sample["id"])
            clicks = sample["clicks"][:AT_CLICKS]
            panels.append((rank, sample, image, mask, replay(run["model"], image, clicks)))
        _draw(path, f"{label}, {run['dataset']}, protocol {run['protocol']}", panels,
              bool(run.get("untrained")))
        paths.append(path)
    return paths


def choose(samples: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """best, median, worst -> sample, by the IoU at 5 clicks (or the last, if it took fewer).

    Of one sample there is only the best, of two the best and the worst.
    """
    ranked = sorted((s for s in samples if s.get("ious") and s.get("clicks")), key=iou_at,
                    reverse=True)
    places = {"best": 0, "median": len(ranked) // 2, "worst": len(ranked) - 1}
    chosen: dict[str, dict[str, Any]] = {}
    for rank, place in places.items():
        if ranked and not any(ranked[place] is sample for sample in chosen.values()):
            if rank != "median" or len(ranked) > 2:
                chosen[rank] = ranked[place]
    return chosen


def iou_at(sample: dict[str, Any], clicks: int = AT_CLICKS) -> float:
    """IoU of a sample after that many clicks, or after its last."""
    return float(sample["ious"][min(clicks, len(sample["ious"])) - 1])


def _draw(path: Path, title: str, panels: list, untrained: bool) -> None:
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tallest = max(image.shape[0] / image.shape[1] for _, _, image, _, _ in panels)
    size = (4.2 * len(panels), 4.2 * min(tallest, 1.6) + 1.3)
    figure = Figure(figsize=size, layout="constrained")
    for axes, (rank, sample, image, mask, prob) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        axes.imshow(image)
        _outline(axes, mask == 1, TRUTH, 1.0, "dashed")
        _outline(axes, prob > THRESHOLD, FOUND, 1.6, "solid")
        clicks = sample["clicks"][:AT_CLICKS]
        for positive, colour, marker in ((True, POSITIVE, "o"), (False, NEGATIVE, "X")):
            placed = [(x, y) for x, y, is_positive in clicks if bool(is_positive) is positive]
            if placed:
                axes.scatter(*zip(*placed, strict=True), s=42, c=colour, marker=marker,
                             edgecolors="black", linewidths=0.8, zorder=3)
        number = len(clicks)
        axes.set_title(f"{rank}: {_clipped(str(sample['id']))}\nIoU {iou_at(sample):.3f} at "
                       f"{number} click{'s' if number > 1 else ''}", fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    handles = [
        Line2D([], [], color=FOUND, label="found"),
        Line2D([], [], color="gray", linestyle="dashed", label="annotated (white)"),
        Line2D([], [], color=POSITIVE, marker="o", linestyle="", markeredgecolor="black",
               label="positive click"),
        Line2D([], [], color=NEGATIVE, marker="X", linestyle="", markeredgecolor="black",
               label="negative click"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4 if len(panels) > 1 else 2,
                  fontsize=8)
    note = "  (random weights: the mask means nothing)" if untrained else ""
    figure.suptitle(title + note, fontsize=10)
    figure.savefig(path, dpi=100)


def _outline(axes: Any, mask: np.ndarray, colour: str, width: float, line: str) -> None:
    if mask.any():
        # Padded, so that outlines close where the object meets the border.
        padded = np.pad(mask.astype(np.float32), 1)
        xs, ys = np.arange(-1, mask.shape[1] + 1), np.arange(-1, mask.shape[0] + 1)
        axes.contour(xs, ys, padded, levels=[0.5], colors=colour, linewidths=width,
                     linestyles=line)
        axes.set_xlim(-0.5, mask.shape[1] - 0.5)
        axes.set_ylim(mask.shape[0] - 0.5, -0.5)


def _clipped(name: str, longest: int = 40) -> str:
    return name if len(name) <= longest else "..." + name[3 - longest:]
