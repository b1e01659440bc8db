"""The loop: every sample through every model before the next, each result written down at once."""

import contextlib
import hashlib
import platform
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from fdrn_adapter.evaluation.datasets.sample import Sample
from fdrn_adapter.evaluation.journal import Journal
from fdrn_adapter.evaluation.methods import catalogue
from fdrn_adapter.evaluation.methods.method import Built, ModelSpec, Options
from fdrn_adapter.evaluation.protocols import run_sample
from fdrn_adapter.evaluation.results import run_of
from fdrn_adapter.evaluation.settings import Settings
from fdrn_adapter.evaluation.tasks import Task, Unit
from fdrn_adapter.hosts.catalogue import is_fdrn
from fdrn_adapter.workers import HERE, Workers

WARMUP_CLICKS = 2

Progress = Callable[[int], object]


class SampleError(RuntimeError):
    """A model failed on a sample, both named."""


class Evaluation:
    """Takes samples through models.

    It is copied to workers without its networks, which each of them builds once.

    Args:
        units: data sets with protocols.
        settings: of all samples.
        specs, options: what models are built from.
        models: that are built already, in the order of the specs.
    """

    def __init__(
        self, units: Sequence[Unit], settings: Settings, specs: Sequence[ModelSpec],
        options: Options, models: Sequence[Built] = (),
    ):
        self._units, self._settings = units, settings
        self._specs, self._options = specs, options
        self._digests = [catalogue.digest_of(spec) for spec in specs]
        self._models, self._warm, self._unit = list(models), set(), None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_models": [], "_warm": set(), "_unit": None}

    def __call__(self, task: Task) -> list[dict[str, Any]]:
        """The lines of the journal about a sample that ran beside others."""
        return [{**entry, "timed": False} for entry in self.entries(task)]

    def entries(self, task: Task) -> Iterator[dict[str, Any]]:
        """The lines of the journal about a sample, each as soon as there is one.

        Models take turns within a sample, so that a busy moment of the machine hits them all.
        Before its first sample of a unit every model is warmed up. Loading, click simulation and
        metrics are outside the measured times.

        Raises:
            SampleError: a model fails.
        """
        unit = self._units[task.unit]
        if self._unit != task.unit:
            for built in self._built():
                prepare(built, unit.dataset.name)
            self._unit = task.unit
        start = time.perf_counter()
        sample, problems = unit.load(task.index)
        load_s = time.perf_counter() - start
        head = {"dataset": unit.dataset.name, "protocol": unit.protocol, "index": task.index}
        if problems and not task.noted:
            bad = [{"id": p.sample_id, "reason": p.reason} for p in problems]
            yield {"kind": "problems" if sample else "skipped", **head, "bad": bad}
        if sample is None:
            return
        for built in self._built():
            if built.spec.name in task.models:
                yield {**head, **self._entry(built, task, sample, load_s)}

    def _built(self) -> list[Built]:
        if not self._models:
            for spec, digest in zip(self._specs, self._digests, strict=True):
                if catalogue.digest_of(spec) != digest:
                    raise ValueError(
                        f"{spec.name}: {spec.source} on {platform.node()} is another file than "
                        "where the benchmark was started; all machines have to see the same one."
                    )
            self._models = [catalogue.build(spec, self._options) for spec in self._specs]
        return self._models

    def _entry(self, built: Built, task: Task, sample: Sample, load_s: float) -> dict[str, Any]:
        key = (task.unit, built.spec.name)
        try:
            if key not in self._warm:
                warm_up(built, sample)
                self._warm.add(key)
            return _evaluate(built, self._units[task.unit], sample, self._settings, load_s)
        except Exception as error:
            raise SampleError(
                f"{task}, model {built.spec.name}: {type(error).__name__}: {error}"
            ) from error


def run_units(
    evaluation: Evaluation, tasks: Sequence[Task], journal: Journal, workers: Workers = HERE,
    progress: Progress = lambda steps: None,
) -> None:
    """Run samples, each result written down at once, in this process.

    Args:
        evaluation: what runs them.
        tasks: see `tasks.waiting`.
        journal: gets a line for every sample and model.
        workers: where they run.
        progress: called with the number of (sample, model) pairs that are done.
    """
    if workers.here:
        for task in tasks:
            left = len(task.models)
            for entry in evaluation.entries(task):
                journal.add(entry)
                if entry["kind"] == "sample":
                    progress(1)
                    left -= 1
            progress(left)
        return
    with contextlib.closing(workers.each(evaluation, tasks)) as done:
        for number, entries in done:
            for entry in entries:
                journal.add(entry)
            progress(len(tasks[number].models))


def _evaluate(
    built: Built, unit: Unit, sample: Sample, settings: Settings, load_s: float
) -> dict[str, Any]:
    """What a line of the journal says of a sample and a model."""
    _seed_everything(f"{settings.seed}/{unit.protocol}/{sample.id}")
    start = time.perf_counter()
    records = run_sample(unit.protocol, built.segmenter, sample, settings)
    seconds = time.perf_counter() - start + load_s  # what the stock script's SPC counts
    return {
        "kind": "sample", "model": built.spec.name, "records": records, "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(),
    }


def prepare(built: Built, dataset: str) -> None:
    """Tell networks which data set comes: the stock zoom-in is another one for DAVIS."""
    if hasattr(built.segmenter, "for_dataset"):
        built.segmenter.for_dataset(dataset)


def warm_up(built: Built, sample: Sample) -> None:
    """One encoding and two clicks, off the record."""
    rows, cols = sample.mask.shape
    built.segmenter.set_image(sample.image)
    for n in range(WARMUP_CLICKS):
        built.segmenter.add_click(cols // (2 + n), rows // (2 + n), n == 0)


def _seed_everything(text: str) -> None:
    """Methods that draw random numbers draw the same ones after an interruption."""
    import cv2

    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") // 2
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    cv2.setRNGSeed(seed)


def peak_memory_mb() -> float:
    """The most resident memory this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def collect(
    units: Sequence[Unit], models: Sequence[Built], settings: Settings, journal: Journal,
    head: dict[str, Any],
) -> list[dict[str, Any]]:
    """The runs of results.json, from the journal.

    Args:
        units, models, settings: of the evaluation.
        journal: with all its samples.
        head: what every run says of itself: threads ...
    """
    runs = []
    for unit in units:
        place = (unit.dataset.name, unit.protocol)
        here = [
            e for e in journal.entries
            if (e.get("dataset"), e.get("protocol")) == place and e["index"] < len(unit)
        ]
        here.sort(key=lambda e: e["index"])  # workers finish in any order
        skipped = [bad for e in here if e["kind"] in ("problems", "skipped") for bad in e["bad"]]
        for built in models:
            entries = [e for e in here if e.get("model") == built.spec.name]
            about = {"model": built.spec.name, "dataset": place[0], "protocol": place[1]}
            runs.append(run_of({**about, **described(built), **head}, entries, skipped, settings))
    return runs


def described(built: Built) -> dict[str, Any]:
    """What a run says of its model."""
    about: dict[str, Any] = {"spec": built.spec.text, "notes": built.notes or None}
    if built.engine is not None:
        about["engine"] = built.engine
    if built.trained is False:
        about["untrained"] = True
    if built.model is not None:
        about["is_fdrn"] = is_fdrn(built.model)
    return about
