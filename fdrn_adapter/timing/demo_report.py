"""What `fdrn demo` computes from its times, and its tables."""

from dataclasses import asdict
from typing import Any

from fdrn_adapter.timing import speed
from fdrn_adapter.zoo.entries import ZooEntry

TOTALS_AT = (1, 5, 10, 20)  # clicks
# Whose times: of this run on the photograph, of this run with the paper's image size, the paper's.
KINDS = ("here", "here_481x321", "paper")
FASTER, SLOWER = "H2-hrnet18s", "RITM-hrnet32"  # of the headline
UNTRAINED = "random weights: mask is meaningless, time is real"


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
        f"{image['name']}, {size} pixels; {machine['cpu']}, {threads_of(machine)}, "
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
    if headline := in_one_sentence(results):
        lines += ["", headline]
    return "\n".join(lines)


def in_one_sentence(results: dict[str, Any]) -> str | None:
    """The one ratio: 20 clicks on the paper's image, its fastest FDRN beside its slowest baseline.

    None where one of the two was not measured.
    """
    models = {m["name"]: m for m in results["models"]}
    if not {FASTER, SLOWER} <= models.keys():
        return None
    last = str(TOTALS_AT[-1])
    here, paper = (models[FASTER][kind]["times_faster_than"][SLOWER][last]
                   for kind in ("here_481x321", "paper"))
    total_ms = models[FASTER]["here_481x321"]["total_ms"][last]
    return (
        f"In one sentence: {last} clicks on an image of 481x321 pixels, encoding included, take "
        f"{FASTER} {total_ms / 1000:.2f} s, {here:.1f} times less than stock {SLOWER} "
        f"({results['engine']}); the paper says {paper:.1f} times."
    )


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


def threads_of(machine: dict[str, Any]) -> str:
    """How many threads it was."""
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
