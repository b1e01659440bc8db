"""A benchmark as a whole: models are built, data sets run, results written and drawn."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fdrn_adapter.engines.engine import EXACT
from fdrn_adapter.evaluation import datasets, results, runner
from fdrn_adapter.evaluation.journal import Journal
from fdrn_adapter.evaluation.methods import catalogue
from fdrn_adapter.evaluation.methods.method import Built
from fdrn_adapter.evaluation.plan import Plan
from fdrn_adapter.evaluation.reports import pictures, report
from fdrn_adapter.evaluation.settings import SPEED
from fdrn_adapter.evaluation.speed_runs import speed_runs
from fdrn_adapter.evaluation.tasks import waiting
from fdrn_adapter.output_folders import only_writer, together
from fdrn_adapter.timing import speed
from fdrn_adapter.writable import writable_folder


@dataclass(frozen=True)
class Outcome:
    """What came of a plan.

    Attributes:
        found: what results.json holds.
        models: that were built for it.
    """

    plan: Plan
    found: dict[str, Any]
    models: list[Built]


# Called with a total (or None), what is counted and its unit; the context gets a function to be
# called with how many more are done.
Bar = Callable[[int | None, str, str], AbstractContextManager[Callable[[int], object]]]


def no_bar(total: int | None, what: str, unit: str) -> AbstractContextManager:
    return contextlib.nullcontext(lambda more: None)


def run(plan: Plan, bar: Bar = no_bar) -> Outcome:
    """Everything but the reports; what is done is in the journal in `plan.out`.

    Raises:
        ValueError: a model that cannot be built, or a folder that cannot be used; before the first
            sample.
    """
    with all_threads(plan.options.threads):
        models = [catalogue.build(spec, plan.options) for spec in plan.specs]
        out = writable_folder(plan.out)
        with _only_writer(out), contextlib.closing(
            Journal(out, plan.configuration(), plan.resume)
        ) as journal:
            found = _measured(plan, models, journal, bar)
    return Outcome(plan, found, models)


def _only_writer(out: Path) -> contextlib.AbstractContextManager:
    return only_writer(out, "the results of a benchmark")


@contextlib.contextmanager
def all_threads(number: int | None) -> Iterator[None]:
    """Threads of torch and of OpenCV; None leaves both alone."""
    import cv2

    before = cv2.getNumThreads()
    with speed.threads(number):
        if number is not None:
            cv2.setNumThreads(number)
        try:
            yield
        finally:
            cv2.setNumThreads(before)


def _measured(
    plan: Plan, models: Sequence[Built], journal: Journal, bar: Bar
) -> dict[str, Any]:
    """Run everything; returns what results.json holds."""
    settings, options = plan.settings, plan.options
    head = {
        "threads": torch.get_num_threads(), "eval_mode": options.eval_mode, "flip": options.flip,
    }
    if options.precision != EXACT:
        head["precision"] = options.precision
    machine = results.machine()
    units = plan.units
    evaluation = runner.Evaluation(units, settings, plan.specs, options, models)
    tasks = waiting(units, [spec.name for spec in plan.specs], journal.entries)
    total = sum(map(len, units)) * len(models)
    with bar(total, "benchmark", "sample") as more:
        more(total - sum(len(task.models) for task in tasks))
        runner.run_units(evaluation, tasks, journal, plan.workers, more)
    runs = runner.collect(units, models, settings, journal, head)
    if plan.with_speed:
        runs += _speed(models, {"threads": head["threads"]}, plan.repeats, journal, bar)
    return {
        "format": results.FORMAT, "machine": machine, "seed": settings.seed,
        "command": plan.command, "runs": runs,
    }


def _speed(
    models: Sequence[Built], head: dict[str, Any], repeats: int, journal: Journal, bar: Bar
) -> list[dict[str, Any]]:
    """The protocol speed, or what the journal has of it."""
    for entry in journal.entries:
        if entry["kind"] == SPEED:
            return entry["runs"]
    with bar(None, "speed", "call") as more:
        runs = speed_runs(models, head, repeats, progress=lambda name: more(1))
    journal.add({"kind": SPEED, "runs": runs})
    return runs


# -- reports -----------------------------------------------------------------------------------


def write_results(outcome: Outcome) -> None:
    """Write results.json and the stock script's pickles."""
    with _only_writer(outcome.plan.out), together(outcome.plan.out, results.NAME) as aside:
        results.write(outcome.found, aside)
        results.write_iou_analysis(outcome.found, aside)


def write_report(outcome: Outcome) -> None:
    """Write the report, with plots and pictures where matplotlib is installed."""
    found, drawn = outcome.found, []
    with _only_writer(outcome.plan.out), together(outcome.plan.out, report.NAME) as aside:
        if importlib.util.find_spec("matplotlib"):  # the report says so where it is missing
            drawn = pictures.draw(found, aside, *callables(outcome.plan.data, outcome.models))
        report.write(found, aside, pictures=drawn)


def written_in(out: Path) -> list[str]:
    """The names of what is in a folder, hidden files apart."""
    return sorted(p.name for p in out.iterdir() if not p.name.startswith("."))


def remarks(found: dict[str, Any]) -> list[str]:
    """The samples that were left out, with the reason."""
    lines = []
    bad: dict[tuple[str, str], list[str]] = {}
    for run in found["runs"]:
        for skipped in run.get("skipped", []):
            key = (run["dataset"], skipped["id"])
            bad.setdefault(key, []).append(skipped["reason"])
    if bad:
        lines.append(f"{len(bad)} sample{'s' if len(bad) > 1 else ''} left out:")
        lines += [f"  {name} {sample}: {reasons[0]}" for (name, sample), reasons in bad.items()]
    return lines


def callables(data: Sequence[datasets.Dataset], models: Sequence[Built]) -> tuple:
    """What pictures are drawn with: load_sample(dataset, id) and replay(model, image, clicks)."""
    by_name = {d.name: d for d in data}
    segmenter_of = {b.spec.name: b.segmenter for b in models}

    def load_sample(dataset: str, sample_id: str) -> tuple[np.ndarray, np.ndarray]:
        sample = by_name[dataset].by_id(sample_id)
        for built in models:
            runner.prepare(built, dataset)
        return sample.image, sample.mask

    def replay(model: str, image: np.ndarray, clicks: Sequence) -> np.ndarray:
        segmenter = segmenter_of[model]
        segmenter.set_image(image)
        prob = np.zeros(image.shape[:2], np.float32)
        for x, y, positive in clicks:
            prob = segmenter.add_click(int(x), int(y), bool(positive))
        return prob

    return load_sample, replay
