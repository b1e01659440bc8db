"""The paper's Tables 1 to 4 beside what was measured (`fdrn benchmark --paper`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from fdrn_adapter import zoo
from fdrn_adapter.evaluation.reports import naming, text_table

# Methods outside the zoo that the paper has too, by our names.
METHODS = {"graphcut": "Graph Cut", "randomwalker": "Random Walker"}
SEPARATOR = " / "


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        title: as in the paper.
        reference: number in its bibliography, None for its own models.
        training: data it was trained on, None where the table does not say.
        values: one for each column, None where the paper has none.
    """

    title: str
    reference: int | None
    values: tuple[float | None, ...]
    training: str | None = None


@dataclass(frozen=True)
class Table:
    """One of the paper's tables.

    Attributes:
        number: in the paper.
        protocol: of the benchmark, which measures the same.
        columns: {"dataset", "noc"} (clicks to that IoU), {"title", "time"} (milliseconds) or
            {"title"} for what the benchmark does not measure.
    """

    number: int
    caption: str
    protocol: str
    columns: tuple[dict[str, Any], ...]
    rows: tuple[Row, ...]


@cache
def tables() -> tuple[Table, ...]:
    """Tables 1 to 4, as printed in the paper."""
    file = resources.files("fdrn_adapter.evaluation.reports").joinpath("paper_tables.yaml")
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    return tuple(
        Table(
            number=int(key.removeprefix("table")),
            caption=table["caption"],
            protocol=table["protocol"],
            columns=tuple(table["columns"]),
            rows=tuple(Row(**{**row, "values": tuple(row["values"])}) for row in table["rows"]),
        )
        for key, table in data.items()
    )


def paper_title(model: str) -> str | None:
    """What the paper calls a model of the benchmark, None if it does not have it."""
    if model in METHODS:
        return METHODS[model]
    if model in zoo.names():
        return zoo.info(model).title if model in zoo.paper_names() else None
    return None


def text(results: dict[str, Any] | None = None) -> str:
    """Tables 1 to 4, every cell as "paper / here".

    Args:
        results: what results.json holds; None for the paper alone.

    Returns:
        Text for a terminal. The second half of a cell is blank where nothing was measured, and
        missing in columns that the benchmark does not measure; models that the paper does not
        have follow below its own.
    """
    runs = (results or {}).get("runs", [])
    parts = [_table(table, list(_measured(table, runs))) for table in tables()]
    return "\n\n".join([*parts, *_notes(runs)])


@dataclass
class _Model:
    """What was measured of one model for one table.

    Attributes:
        label: its name, with engine and threads where it was measured with several.
        title: the paper's name of it, None if it has none.
        values: column index -> value.
    """

    label: str
    title: str | None
    values: dict[int, float]


def _measured(table: Table, runs: list[dict[str, Any]]) -> Iterator[_Model]:
    """The models that have a cell in a table; further engines of a model are not the paper's row.
    """
    runs = [run for run in runs if run.get("protocol") == table.protocol]
    for name in dict.fromkeys(run["model"] for run in runs):
        own = [run for run in runs if run["model"] == name]
        title = paper_title(name)
        for i, setting in enumerate(dict.fromkeys(map(naming.setting, own))):
            values = dict(_values(table, [run for run in own if naming.setting(run) == setting]))
            if values:
                yield _Model(f"{name} ({setting})" if i else name, None if i else title, values)


def _values(table: Table, runs: list[dict[str, Any]]) -> Iterator[tuple[int, float]]:
    for i, column in enumerate(table.columns):
        for run in runs:
            if "dataset" in column and run.get("dataset") == column["dataset"]:
                value = run.get("noc", {}).get(str(column["noc"]))
            else:
                value = run.get(column["time"]) if "time" in column else None
            if value is not None:
                yield i, value
                break


def _table(table: Table, models: list[_Model]) -> str:
    here = {model.title: model.values for model in models if model.title}
    trained = any(row.training for row in table.rows)
    rows = [["paper / here", *(["training data"] if trained else []),
             *(_heading(column) for column in table.columns)]]
    for row in table.rows:
        measured = here.get(row.title, {})
        rows.append([row.title, *([row.training or ""] if trained else []),
                     *_cells(table, row.values, measured)])
    titles = {row.title for row in table.rows}
    for model in models:
        if model.title not in titles:
            nothing = (None,) * len(table.columns)
            rows.append([model.label, *([""] if trained else []),
                         *_cells(table, nothing, model.values)])
    head = f"Table {table.number}. {table.caption} (protocol {table.protocol})"
    return head + "\n" + text_table.aligned(_even(rows, 1 + trained), left=1 + trained, gap="   ")


def _heading(column: dict[str, Any]) -> str:
    return column.get("title") or f"{column['dataset']} {column['noc']}"


def _cells(table: Table, paper: tuple[float | None, ...], here: dict[int, float]) -> list[str]:
    cells = []
    for i, (column, value) in enumerate(zip(table.columns, paper, strict=True)):
        digits = 0 if "/ms" in column.get("title", "") else 2
        printed = "-" if value is None else f"{value:.{digits}f}"
        if "dataset" in column or "time" in column:
            measured = here.get(i)  # 0 is the encoding time of a network without F1: "/" there
            printed += SEPARATOR + (f"{measured:.{digits}f}" if measured else "")
        cells.append(printed)
    return cells


def _even(rows: list[list[str]], texts: int) -> list[list[str]]:
    """The halves of the cells of each column padded to one width, so that the bars line up."""
    rows = [list(row) for row in rows]
    for i in range(texts, len(rows[0])):
        if SEPARATOR not in rows[1][i]:
            continue
        halves = [row[i].split(SEPARATOR) for row in rows[1:]]
        widths = [max(map(len, half)) for half in zip(*halves, strict=True)]
        for row, (left, right) in zip(rows[1:], halves, strict=True):
            row[i] = left.rjust(widths[0]) + SEPARATOR + right.rjust(widths[1])
    return rows


def _notes(runs: list[dict[str, Any]]) -> list[str]:
    notes = [
        "datasets: mean clicks to IoU 85% or 90%, 20 where it is never reached (NoC). F1 runs once "
        "per image,\nF2 (or the stock network) on every click. * on FocalClick. The paper: 2.9 GHz "
        "Core i7 and GTX 1660 Ti,\nthreads and engine not stated. `fdrn complexity` counts "
        "parameters and multiply-adds."
    ]
    # A dataset cut short, or of few samples, is not the paper's.
    sizes = {(run["dataset"], run["n_samples"]) for run in runs
             if run.get("n_samples") and run.get("dataset", "-") != "-"}
    if sizes:
        notes.append("here: " + ", ".join(
            f"{dataset} {n} sample{'s' if n > 1 else ''}" for dataset, n in sorted(sizes)) + ".")
    known = {column["dataset"] for table in tables() for column in table.columns
             if "dataset" in column}
    others = sorted({dataset for dataset, _ in sizes} - known)
    if others:
        notes.append(f"Measured, but not in the paper: {', '.join(others)}.")
    untrained = sorted({run["model"] for run in runs if run.get("untrained")})
    if untrained:
        notes.append(f"Random weights, whose clicks mean nothing: {', '.join(untrained)}.")
    return ["\n".join(notes)]
