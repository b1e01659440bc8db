"""What `fdrn demo` computes from its times, prints and draws."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.timing import speed
from fdrn_adapter.zoo.entries import ZooEntry

TOTALS_AT = (1, 5, 10, 20)  # clicks
# Whose times: of this run on the photograph, of this run with the paper's image size, the paper's.
KINDS = ("here", "here_481x321", "paper")
UNTRAINED = "random weights: mask is meaningless, time is real"
MASK_RGB = (40, 120, 255)
POSITIVE, NEGATIVE = "lime", "red"  # as in the paper's Fig. 4


# -- results -----------------------------------------------------------------------------------


def collect(
    entries: list[ZooEntry], measured: speed.Measurement, num_clicks: int
) -> dict[str, Any]:
    """Everything measured and what follows from it (eq. 6 and 7), as plain values for JSON."""
    models = [_model_results(entry, measured, num_clicks) for entry in entries]
    for kind in KINDS:
        bases = {m["name"]: m[kind] for m in models if not m["is_fdrn"] and m[kind]}
        for times in (m[kind] for m in models if m[kind]):
            times["times_faster_than"] = {
                name: {n: base["total_ms"][n] / total for n, total in times["total_ms"].items()}
                for name, base in bases.items()
            }
    return {
        "engine": "torch eager",
        "machine": asdict(measured.machine),
        "repeats": measured.repeats,
        "warmup": measured.warmup,
        "models": models,
    }


def _model_results(
    entry: ZooEntry, measured: speed.Measurement, num_clicks: int
) -> dict[str, Any]:
    timings = {
        key.removeprefix(entry.name + "/"): timing
        for key, timing in measured.timings.items()
        if key.startswith(entry.name + "/")
    }

    def median_ms(what: str) -> float:
        return timings[what].median_ms if what in timings else 0.0

    network, encoder = entry.paper_network, entry.paper_encoder
    times = {
        "here": (median_ms("encode"), median_ms("click")),
        "here_481x321": (median_ms("encode 481x321"), median_ms("click")),
        "paper": (encoder.cpu_ms if encoder else 0.0, network.cpu_ms) if network else None,
    }
    return {
        "name": entry.name,
        "title": entry.title,
        "trained": entry.weights is not None,
        "is_fdrn": entry.is_fdrn,
        "crop_size": list(entry.crop_size),
        "timings": {what: timing.summary() for what, timing in timings.items()},
        **{kind: pair and _derived(*pair, num_clicks) for kind, pair in times.items()},
    }


def _derived(encode_ms: float, click_ms: float, num_clicks: int) -> dict[str, Any]:
    """Eq. 6 and 7."""
    return {
        "encode_ms": encode_ms,
        "click_ms": click_ms,
        "total_ms": {str(n): speed.total_ms(encode_ms, click_ms, n) for n in TOTALS_AT},
        "t_ave_ms": [speed.average_ms(encode_ms, click_ms, n) for n in range(1, num_clicks + 1)],
    }


# -- text --------------------------------------------------------------------------------------


def text(results: dict[str, Any]) -> str:
    """The tables, with machine and definitions."""
    image, machine, models = results["image"], results["machine"], results["models"]
    size = f"{image['cols']}x{image['rows']}"
    labels = {"here": f"here, {size}", "here_481x321": "here, 481x321", "paper": "paper, 481x321"}
    lines = [
        f"{image['name']}, {size} pixels; {machine['cpu']}, {_threads(machine)}, "
        f"{results['engine']} (torch {machine['torch']}); median of {results['repeats']} rounds, "
        "all networks in turns",
        "",
        _times_table(models, labels),
    ]
    for base in models[0]["here"]["times_faster_than"]:
        lines += ["", _ratio_table(models, labels, base)]
    lines += ["", *_DEFINITIONS]
    if results["repeats"] < speed.REPEATS:
        lines.append(f"Fewer than {speed.REPEATS} rounds: a first impression, no result.")
    if not all(m["trained"] for m in models):
        lines.append(f"* {UNTRAINED}")
    return "\n".join(lines)


_DEFINITIONS = (
    "encode: F1 on an image of that size (columns x rows), once per image. click: one forward pass",
    "on a crop that is cut already; for FDRN with recycled features, and a roi that is new to them",
    "(same roi: what was aligned for the click before is kept). total: encode + n clicks (eq. 6).",
    "paper: Table 2, CPU; processor, threads and engine are not stated: compare ratios, not ms.",
)


def _times_table(models: list[dict], labels: dict[str, str]) -> str:
    totals = [f"{n} click{'s' if n > 1 else ''}" for n in TOTALS_AT]
    rows = [["ms", "crop", "", "encode", "click", "same roi", *totals]]
    for model in models:
        name = model["name"] + ("" if model["trained"] else " *")
        crop = "x".join(map(str, model["crop_size"]))
        same = model["timings"].get("click, same roi", {}).get("median_ms")
        for kind in KINDS:
            times = model[kind]
            if times is None or (kind == "here_481x321" and not model["is_fdrn"]):
                continue  # a stock network has no encoding that depends on the image's size
            label = labels[kind] if model["is_fdrn"] else labels[kind].partition(",")[0]
            rows.append([
                name, crop, label, _ms(times["encode_ms"] or None), _ms(times["click_ms"]),
                "" if kind == "paper" else _ms(same),
                *(_ms(total) for total in times["total_ms"].values()),
            ])
            name = crop = ""
    return _columns(rows)


def _ratio_table(models: list[dict], labels: dict[str, str], base: str) -> str:
    """How many times faster than a stock network, here and in the paper."""
    head = [f"times faster than {base}", ""]
    rows = [head + [f"{n} click{'s' if n > 1 else ''}" for n in TOTALS_AT]]
    for model in models:
        if model["name"] == base:
            continue
        name = model["name"]
        for kind in KINDS:
            ratios = model[kind] and model[kind]["times_faster_than"].get(base)
            if not ratios or (kind == "here_481x321" and not model["is_fdrn"]):
                continue
            label = labels[kind] if model["is_fdrn"] else labels[kind].partition(",")[0]
            rows.append([name, label, *(f"{r:.2f}" for r in ratios.values())])
            name = ""
    return _columns(rows)


def _threads(machine: dict[str, Any]) -> str:
    return f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _columns(rows: list[list[str]]) -> str:
    """Aligned columns; the texts on the left to the left, the numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = zip(row, widths, rows[-1], strict=True)
        lines.append("  ".join(
            cell.ljust(w) if not _is_number(last) else cell.rjust(w) for cell, w, last in cells
        ).rstrip())
    return "\n".join(lines)


def _is_number(cell: str) -> bool:
    return cell.replace(".", "", 1).isdigit()


# -- pictures ----------------------------------------------------------------------------------


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
        f"{machine['cpu']}, {_threads(machine)}, {results['engine']}, "
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
