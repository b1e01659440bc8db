"""The plots of `fdrn benchmark`: PNGs beside results.json."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fdrn_adapter.evaluation.reports import naming
from fdrn_adapter.timing import speed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Run = dict[str, Any]
# Okabe and Ito's colours, told apart by colour-blind readers as well; and shapes, for gray prints.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")
HATCHES = ("", "//", "..", "xx")
TARGETS = ("80", "85", "90", "95")
CLICKS = 20  # in the plot of eq. 7
COLUMNS = 3  # panels side by side
LOG_FROM = 12  # ratio of values from which an axis is logarithmic


def draw_all(results: dict[str, Any], out_dir: str | Path) -> list[Path]:
    """Draw every plot for which there are figures.

    Returns:
        the files: miou_by_click.png, t_ave.png (eq. 7), time_to_iou.png (eq. 6 with the mean
        clicks to the target) and noc_vs_ms.png; those without a figure are left out.
    """
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    sheet = _Sheet(results)
    plots = {
        "miou_by_click.png": (_miou, lambda r: r.get("miou_by_click"), "IoU over clicks"),
        "t_ave.png": (_average, _timed, "Average time of a click (eq. 7)"),
        "time_to_iou.png": (
            _to_iou, lambda r: _timed(r) and r.get("noc"),
            "Time to a target IoU: eq. 6 with the mean clicks (20 where it is never reached)"),
        "noc_vs_ms.png": (
            _scatter, lambda r: _timed(r) and r.get("noc", {}).get("90") is not None,
            "Clicks to IoU 90% against time per click"),
    }
    return [out_dir / name for name, (draw, has, title) in plots.items()
            if sheet.draw(out_dir / name, draw, has, title)]


def _timed(run: Run) -> bool:
    return run.get("click_ms") is not None


def style(index: int) -> dict[str, str]:
    """Colour and marker of the model at a place in the legend."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


class _Sheet:
    """One panel for each protocol and data set, one style for each model in all panels."""

    def __init__(self, results: dict[str, Any]) -> None:
        self._results = results
        self._runs = results["runs"]
        self._labels = [
            label + (" (random weights)" if run.get("untrained") else "")
            for label, run in zip(naming.labels(self._runs), self._runs, strict=True)
        ]
        self._place = {label: i for i, label in enumerate(dict.fromkeys(self._labels))}

    def draw(
        self, path: Path, draw: Callable, has: Callable[[Run], Any], title: str
    ) -> bool:
        """Draw the runs that have something to show; False if there are none."""
        from matplotlib.figure import Figure  # without pyplot: no display, no global state

        panels = list(self._panels(has))
        if not panels:
            return False
        columns = min(COLUMNS, len(panels))
        rows = -(-len(panels) // columns)
        longest = max(len(label) for label in self._labels)
        width = 4.6 * columns + min(1 + 0.075 * longest, 5.0)
        figure = Figure(figsize=(width, 3.7 * rows + 0.7), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        handles: dict[str, Any] = {}
        for place, (name, runs) in zip(axes, panels, strict=False):
            lines = draw(place, [(label, run, self._place[label]) for label, run in runs])
            handles.update(dict(zip((label for label, _ in runs), lines, strict=True)))
            place.set_title(name, fontsize=10)
            place.grid(alpha=0.3)
        for place in axes[len(panels):]:
            place.set_visible(False)
        order = sorted(handles, key=self._place.get)
        figure.legend([handles[label] for label in order], order, loc="outside right upper",
                      fontsize=8)
        figure.suptitle(f"{title}\n{self._machine()}", fontsize=10)
        figure.savefig(path, dpi=120)
        return True

    def _panels(self, has: Callable[[Run], Any]) -> Iterator[tuple[str, list[tuple[str, Run]]]]:
        for protocol, indices in naming.groups(self._runs).items():
            for dataset in dict.fromkeys(self._runs[i].get("dataset", "-") for i in indices):
                runs = [(self._labels[i], self._runs[i]) for i in indices
                        if self._runs[i].get("dataset", "-") == dataset and has(self._runs[i])]
                if runs:
                    yield self._panel_title(protocol, dataset, runs), runs

    def _panel_title(self, protocol: str, dataset: str, runs: list[tuple[str, Run]]) -> str:
        sizes = sorted({run["n_samples"] for _, run in runs if run.get("n_samples")})
        samples = "/".join(map(str, sizes)) + " samples" if sizes else ""
        return ", ".join(part for part in (dataset.strip("-"), f"protocol {protocol}", samples)
                         if part)

    def _machine(self) -> str:
        machine = self._results.get("machine", {})
        settings = dict.fromkeys(filter(None, map(naming.setting, self._runs)))
        return "; ".join(filter(None, [machine.get("cpu"), *settings]))


Drawn = list[tuple[str, Run, int]]


def _miou(axes: "Axes", runs: Drawn) -> list:
    lines = []
    for _, run, place in runs:
        values = run["miou_by_click"]
        lines += axes.plot(range(1, len(values) + 1), values, markersize=4, linewidth=1.4,
                           **style(place))
    axes.set_xlabel("clicks")
    axes.set_ylabel("mean IoU")
    axes.set_ylim(min(0.5, *(min(run["miou_by_click"]) - 0.03 for _, run, _ in runs)), 1.01)
    _whole_clicks(axes, max(len(run["miou_by_click"]) for _, run, _ in runs))
    return lines


def _average(axes: "Axes", runs: Drawn) -> list:
    lines, every = [], []
    for _, run, place in runs:
        values = [speed.average_ms(run.get("encode_ms") or 0.0, run["click_ms"], n)
                  for n in range(1, CLICKS + 1)]
        every += values
        lines += axes.plot(range(1, CLICKS + 1), values, markersize=4, linewidth=1.4,
                           **style(place))
    axes.set_xlabel("clicks n")
    axes.set_ylabel("t_encode / n + t_click   [ms]")
    _scale(axes, every, "y")
    _whole_clicks(axes, CLICKS)
    return lines


def _to_iou(axes: "Axes", runs: Drawn) -> list:
    lines, every = [], []
    width = 0.84 / len(runs)
    for i, (_, run, place) in enumerate(runs):
        reached = [(t, run["noc"][t]) for t in TARGETS if run["noc"].get(t) is not None]
        times = [speed.total_ms(run.get("encode_ms") or 0.0, run["click_ms"], noc) / 1000
                 for _, noc in reached]
        every += times
        where = [TARGETS.index(t) + (i + 0.5) * width - 0.42 for t, _ in reached]
        lines.append(axes.bar(
            where, times, width * 0.92, color=style(place)["color"], edgecolor="white",
            linewidth=0.3, hatch=HATCHES[place // len(COLOURS) % len(HATCHES)]))
    axes.set_xticks(range(len(TARGETS)), [f"{t}%" for t in TARGETS])
    axes.set_xlabel("target IoU")
    axes.set_ylabel("t_encode + NoC t_click   [s]")
    _scale(axes, every, "y")
    return lines


def _scatter(axes: "Axes", runs: Drawn) -> list:
    lines = []
    for _, run, place in runs:
        lines.append(axes.scatter(run["click_ms"], run["noc"]["90"], s=60, edgecolors="black",
                                  linewidths=0.5, zorder=3, **style(place)))
    axes.set_xlabel("time per click [ms]")
    axes.set_ylabel("NoC@90%, mean clicks (fewer is better)")
    _scale(axes, [run["click_ms"] for _, run, _ in runs], "x")
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.0, low - 0.5), high + 0.5)
    return lines


def _scale(axes: "Axes", values: list[float], axis: str) -> None:
    """From zero, or logarithmic with plain numbers where the values differ much."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    low, high = min(values), max(values)
    if low <= 0 or high < LOG_FROM * low:
        limits = axes.set_ylim if axis == "y" else axes.set_xlim
        limits(0, 1.08 * high or 1)
        return
    (axes.set_yscale if axis == "y" else axes.set_xscale)("log")
    ticks = axes.yaxis if axis == "y" else axes.xaxis
    # One label for 1, 2 and 5 of each decade: never so many that they overlap.
    ticks.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 200 * low else (1,)))
    ticks.set_major_formatter(StrMethodFormatter("{x:g}"))
    ticks.set_minor_formatter(NullFormatter())


def _whole_clicks(axes: "Axes", last: int) -> None:
    step = 1 if last <= 10 else 2 if last <= 20 else max(5, last // 50 * 5)
    axes.set_xticks([1, *range(step if step > 1 else 2, last + 1, step)])
