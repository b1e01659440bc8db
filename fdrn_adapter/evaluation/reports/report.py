"""What `fdrn benchmark` prints, and report.md."""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from fdrn_adapter.evaluation.reports import naming, plots, text_table

logger = logging.getLogger(__name__)

Run = dict[str, Any]
NOC, NOF, MIOU = ("80", "85", "90", "95"), ("85", "90"), ("1", "3", "5", "10", "20")
UNTRAINED = "random weights: clicks and IoU mean nothing, times are real"
DETAILS = {"samples", "p95 ms", "first click ms", "peak MB"}  # in report.md only
NAME = "report.md"
MAX_SKIPPED = 50  # listed in report.md; results.json has them all


# -- tables ------------------------------------------------------------------------------------


def terminal_table(results: dict[str, Any]) -> str:
    """One block for each protocol, in the layout of the stock evaluation's table.

    Keys that a run does not have are blank.
    """
    blocks = []
    for protocol, head, rows in _tables(results, brief=True):
        lines = _ruled([head, *rows])
        blocks.append(f"{naming.PROTOCOLS.get(protocol, protocol)} (protocol {protocol})\n{lines}")
    notes = _notes(results)
    return "\n\n".join(blocks + (["\n".join(notes)] if notes else []))


def _tables(
    results: dict[str, Any], brief: bool = False
) -> list[tuple[str, list[str], list[list[str]]]]:
    """(protocol, head, rows) of every protocol; columns that no run has are left out."""
    runs = results["runs"]
    labels = naming.labels(runs)
    tables = []
    for protocol, indices in naming.groups(runs).items():
        columns = [c for c in _columns(runs[indices[0]]) if not brief or c[0] not in DETAILS]
        cells = [[labels[i] + (" *" if runs[i].get("untrained") else "")]
                 + [show(runs[i]) for _, show in columns] for i in indices]
        head = ["Pipeline", *(name for name, _ in columns)]
        kept = [c for c in range(len(head)) if c == 0 or any(row[c] for row in cells)]
        tables.append((protocol, [head[c] for c in kept], [[r[c] for c in kept] for r in cells]))
    return tables


def _columns(run: Run) -> list[tuple[str, Callable[[Run], str]]]:
    """Head and content of the columns after the model's."""
    most = run.get("max_clicks") or max(len(run.get("miou_by_click", [])), 20)

    def of(key: str, part: str | None = None, digits: int = 2) -> Callable[[Run], str]:
        def show(run: Run) -> str:
            value = run.get(key)
            value = value.get(part) if part is not None and value is not None else value
            return "" if value is None else f"{value:.{digits}f}"
        return show

    return [
        ("Dataset", lambda r: "" if r.get("dataset", "-") == "-" else r["dataset"]),
        ("samples", of("n_samples", digits=0)),
        *((f"NoC@{iou}%", of("noc", iou)) for iou in NOC),
        *((f">={most}@{iou}%", of("nof", iou, 0)) for iou in NOF),
        ("SPC,s", of("spc_s", digits=3)),
        ("Time", _elapsed),
        *((f"mIoU@{n}", of("miou", n, 3)) for n in MIOU),
        ("encode ms", of("encode_ms", digits=1)),
        ("click ms", of("click_ms", digits=1)),
        # Without a data set there is room for eq. 6; with one it has a table in report.md.
        *((f"total@{n} ms", of("total_ms", n, 0)) for n in
          (run.get("total_ms", {}) if run.get("dataset", "-") == "-" else ())),
        ("p95 ms", of("click_p95_ms", digits=1)),
        ("first click ms", of("first_click_ms", digits=1)),
        ("session click ms", of("session", "click_ms", 1)),
        ("on a new roi ms", of("session", "new_roi_ms", 1)),
        ("session total@20 ms", of("session", "total_20_ms", 0)),
        ("peak MB", of("peak_memory_mb", digits=0)),
    ]


def _elapsed(run: Run) -> str:
    """The stock script's time: seconds per click times all clicks."""
    clicks = sum(len(sample.get("ious", [])) for sample in run.get("samples", []))
    if not clicks or run.get("spc_s") is None:
        return ""
    return str(timedelta(seconds=int(run["spc_s"] * clicks)))


def _ruled(rows: list[list[str]]) -> str:
    left = 2 if "Dataset" in rows[0] else 1
    bars = [["", *(f" {cell}" for cell in row), ""] for row in rows]
    lines = text_table.aligned(bars, left=left + 1, gap="|").split("\n")
    rule = "-" * len(lines[0])
    return "\n".join([rule, lines[0], rule, *lines[1:]])


def _time_tables(results: dict[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """Eq. 6 and 7: (title, rows) where any run has them."""
    tables = []
    for key, title in (("total_ms", "t_total = t_encode + n t_click (eq. 6), ms"),
                       ("average_ms", "t_ave = t_encode / n + t_click (eq. 7), ms")):
        runs = [(label, run) for label, run in
                zip(naming.labels(results["runs"]), results["runs"], strict=True) if run.get(key)]
        clicks = sorted({n for _, run in runs for n in run[key]}, key=int)
        rows = [["Pipeline", "Dataset", "Protocol",
                 *(f"{n} click{'s' if n != '1' else ''}" for n in clicks)]]
        for label, run in runs:
            cells = (run[key].get(n) for n in clicks)
            rows.append([label, run.get("dataset", "-"), run["protocol"],
                         *("" if v is None else f"{v:.1f}" for v in cells)])
        if runs:
            tables.append((title, rows))
    return tables


def _notes(results: dict[str, Any]) -> list[str]:
    runs = results["runs"]
    notes = []
    if any(run.get("untrained") for run in runs):
        notes.append(f"* {UNTRAINED}")
    if any(run.get("timed") is False for run in runs):
        notes.append("Samples ran beside each other (--jobs, --ray): times are left out.")
    for label, run in zip(naming.labels(runs), runs, strict=True):
        if run.get("skipped"):
            number = len(run["skipped"])
            notes.append(
                f"{label}, {run.get('dataset', '-')}, {run['protocol']}: {number} "
                f"sample{'s' if number > 1 else ''} skipped, not in the figures."
            )
    return notes


# -- report.md ---------------------------------------------------------------------------------


def write(
    results: dict[str, Any], out_dir: str | Path, pictures: Sequence[Path] = ()
) -> list[Path]:
    """Write report.md and the plots.

    Args:
        results: what results.json holds.
        out_dir: folder, made if it is missing.
        pictures: of samples, from `pictures.draw`; shown at the end.

    Returns:
        the files written, report.md first. Without matplotlib there are no plots, and the report
        says so.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        drawn, missing = [], "No plots: matplotlib is not installed (fdrn_adapter[plots])."
        logger.warning(missing)
    else:
        drawn, missing = plots.draw_all(results, out_dir), None
    parts = [
        "# fdrn benchmark", _machine(results), *_markdown_tables(results), *_markdown_times(results)
    ]
    if drawn or missing:
        parts += ["## Plots", *([missing] if missing else []), *_images(drawn, out_dir)]
    if pictures:
        parts += ["## Samples", "Best, median and worst by the IoU at 5 clicks.",
                  *_images(pictures, out_dir)]
    parts += _markdown_skipped(results)
    path = out_dir / NAME
    path.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return [path, *drawn]


def _machine(results: dict[str, Any]) -> str:
    lines = []
    if "command" in results:
        lines += [f"```\n{results['command']}\n```", ""]
    if "seed" in results:
        lines.append(f"- seed: {results['seed']}")
    lines += _listed(results.get("machine", {}))
    settings = dict.fromkeys(filter(None, map(naming.setting, results["runs"])))
    if settings:
        lines.append(f"- engine: {'; '.join(settings)}")
    return "\n".join(lines)


def _listed(values: dict[str, Any]) -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {version}" for name, version in value.items())
        lines.append(f"- {key.replace('_', ' ')}: {value}")
    return lines


def _markdown_tables(results: dict[str, Any]) -> list[str]:
    parts = []
    for protocol, head, rows in _tables(results):
        left = 2 if "Dataset" in head else 1
        parts += [f"## {naming.PROTOCOLS.get(protocol, protocol)} (`{protocol}`)",
                  text_table.markdown([head, *rows], left=left)]
    parts.append(
        "NoC: mean clicks to that IoU, the most that were made where it is never reached; >=: "
        "samples that need as many or more; SPC: seconds per click as the stock script counts "
        "them, with data loading and click simulation; encode, click: median time of the method "
        "alone; session: what a caller waits for, zoom-in and resizing included (of a network on "
        "a new roi each time in the total)."
    )
    notes = _notes(results)
    return parts + (["\n".join(f"- {n.removeprefix('* ')}" if not n.startswith("*") else
                               f"- \\{n}" for n in notes)] if notes else [])


def _markdown_times(results: dict[str, Any]) -> list[str]:
    parts = []
    for title, rows in _time_tables(results):
        parts += [f"## {title}", text_table.markdown(rows, left=3)]
    return parts


def _images(paths: Sequence[Path], out_dir: Path) -> list[str]:
    return [f"![{Path(p).stem}]({_relative(Path(p), out_dir)})" for p in paths]


def _relative(path: Path, folder: Path) -> str:
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        return path.as_posix()


def _markdown_skipped(results: dict[str, Any]) -> list[str]:
    rows = [["Pipeline", "Dataset", "Sample", "Reason"]]
    for label, run in zip(naming.labels(results["runs"]), results["runs"], strict=True):
        rows += [[label, run.get("dataset", "-"), str(s["id"]), s["reason"].replace("\n", " ")]
                 for s in run.get("skipped", [])]
    if len(rows) == 1:
        return []
    parts = ["## Skipped samples", text_table.markdown(rows[: MAX_SKIPPED + 1], left=4)]
    if len(rows) > MAX_SKIPPED + 1:
        parts.append(f"And {len(rows) - MAX_SKIPPED - 1} more, in results.json.")
    return parts
