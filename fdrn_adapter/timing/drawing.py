"""Photographs with masks and clicks, and times over clicks, for the demo and the gallery."""

from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.timing.demo_report import UNTRAINED, threads_of

MASK_RGB = (40, 120, 255)
POSITIVE, NEGATIVE = "lime", "red"  # as in the paper's Fig. 4


def draw_overlay(
    path: Path, image: np.ndarray, masks: dict[str, dict[int, np.ndarray]], clicks: list,
    trained: set[str],
) -> None:
    """The photograph with mask and clicks: one row for each network, large.

    Args:
        path: PNG to write.
        image: (H, W, 3) uint8 RGB.
        masks: name -> number of clicks -> (H, W) bool.
        clicks: with x, y, positive, in pixels.
        trained: names of networks whose masks mean something.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    rows, cols = image.shape[:2]
    width, columns = 5.0, len(next(iter(masks.values())))
    height = width * rows / cols + 0.4
    figure = Figure(figsize=(width * columns, height * len(masks)), layout="constrained")
    for row, (name, after) in zip(figure.subplots(len(masks), columns, squeeze=False),
                                  masks.items(), strict=True):
        for axes, (number, mask) in zip(row, after.items(), strict=True):
            draw_panel(axes, image, mask, clicks[:number], dot=45)
            axes.set_title(f"{name}, {number} click{'s' if number > 1 else ''}", fontsize=12)
            if name not in trained:
                axes.set_xlabel(UNTRAINED, fontsize=8, color="firebrick")
    figure.savefig(path, dpi=100)


def draw_panel(axes: Any, image: np.ndarray, mask: np.ndarray, clicks: list, dot: float) -> None:
    """The photograph with mask and clicks; `dot` is the area of a click, points squared."""
    axes.imshow(blend(image, mask))
    for positive, colour in ((True, POSITIVE), (False, NEGATIVE)):
        placed = [c for c in clicks if c.positive is positive]
        axes.scatter([c.x for c in placed], [c.y for c in placed], s=dot, c=colour,
                     edgecolors="white", linewidths=0.15 * dot**0.5)
    if mask.any() and not mask.all():
        axes.contour(mask, levels=[0.5], colors="white", linewidths=0.12 * dot**0.5)
    axes.set_xticks([])
    axes.set_yticks([])


def blend(image: np.ndarray, mask: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """The image with the mask in colour, (H, W, 3) uint8."""
    mixed = (1 - alpha) * image + alpha * np.array(MASK_RGB, np.float32)
    return np.where(mask[..., None], mixed.round().astype(np.uint8), image)


def draw_average(path: Path, results: dict[str, Any]) -> None:
    """Average time of a click over the number of clicks (eq. 7), the paper's Fig. 5."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.6), layout="constrained")
    axes = figure.subplots()
    for i, model in enumerate(results["models"]):
        averages = model["here"]["t_ave_ms"]
        numbers = range(1, len(averages) + 1)
        axes.plot(numbers, averages, f"C{i}o-", markersize=3, label=model["name"])
        if model["paper"]:
            axes.plot(numbers, model["paper"]["t_ave_ms"], f"C{i}:", linewidth=1,
                      label=f"{model['name']}, paper")
    machine, image = results["machine"], results["image"]
    axes.set_title(
        f"{machine['cpu']}, {threads_of(machine)}, {results['engine']}, "
        f"{image['cols']}x{image['rows']} pixels\npaper: Table 2, its CPU, 481x321 pixels",
        fontsize=9,
    )
    axes.set_xlabel("clicks n")
    axes.set_ylabel("t_ave = t_F1 / n + t_F2   [ms]")
    axes.set_ylim(bottom=0)
    axes.set_xticks(range(1, len(numbers) + 1, 1 if len(numbers) < 12 else 2))
    axes.grid(alpha=0.3)
    figure.legend(fontsize=7, loc="outside right upper")
    figure.savefig(path, dpi=120)
