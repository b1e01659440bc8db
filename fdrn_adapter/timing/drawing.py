"""Photographs with masks and clicks, and times over clicks, for the demo and the gallery."""

from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.timing.demo_report import UNTRAINED, threads_of

MASK_RGB = (40, 120, 255)
POSITIVE, NEGATIVE = "lime", "red"  # as in the paper's Fig. 4


def draw_overlay(
    path: Path, image: np.ndarray, masks: dict[str, np.ndarray], clicks: list,
    results: dict[str, Any],
) -> None:
    """The photograph with mask and clicks, one panel for each network.

    Args:
        path: PNG to write.
        image: (H, W, 3) uint8 RGB.
        masks: name -> (H, W) bool, in the order of the panels.
        clicks: with x, y, positive, in pixels.
        results: what demo.json holds.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no global state

    models = {model["name"]: model for model in results["models"]}
    rows, cols = image.shape[:2]
    width = 4.0
    figure = Figure(figsize=(width * len(masks), width * rows / cols + 0.9), layout="constrained")
    for axes, (name, mask) in zip(figure.subplots(1, len(masks), squeeze=False)[0], masks.items(),
                                  strict=True):
        draw_panel(axes, image, mask, clicks, dot=28)
        axes.set_title(f"{name}, {len(clicks)} clicks", fontsize=11)
        if not models[name]["trained"]:
            axes.set_xlabel(UNTRAINED, fontsize=8, color="firebrick")
    figure.savefig(path, dpi=100)


def draw_panel(axes: Any, image: np.ndarray, mask: np.ndarray, clicks: list, dot: float) -> None:
    """The photograph with mask and clicks; `dot` is the area of a click, points squared."""
    axes.imshow(blend(image, mask))
    for positive, colour in ((True, POSITIVE), (False, NEGATIVE)):
        placed = [(c.x, c.y) for c in clicks if c.positive is positive]
        axes.scatter(*zip(*placed, strict=True), s=dot, c=colour, edgecolors="white",
                     linewidths=0.15 * dot**0.5)
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
