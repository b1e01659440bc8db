"""The loop: every sample through every model before the next, each result written down at once."""

import functools
import hashlib
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fdrn_adapter.evaluation.datasets.catalogue import Dataset
from fdrn_adapter.evaluation.datasets.sample import BadSampleError, Sample
from fdrn_adapter.evaluation.journal import Journal
from fdrn_adapter.evaluation.methods.method import Built
from fdrn_adapter.evaluation.protocols import run_sample
from fdrn_adapter.evaluation.results import run_of
from fdrn_adapter.evaluation.settings import Settings
from fdrn_adapter.hosts.catalogue import is_fdrn

WARMUP_CLICKS = 2

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Unit:
    """One pass of all models over a data set under a protocol."""

    dataset: Dataset
    protocol: str

    @functools.cached_property
    def _groups(self) -> list[tuple[str, list[int]]]:
        return self.dataset.groups()

    def __len__(self) -> int:
        return len(self._groups) if self.protocol == "multi" else len(self.dataset)

    def load(self, i: int) -> tuple[Sample | None, list[BadSampleError]]:
        """A sample (for `multi`, an image with its objects), and what is wrong with it."""
        if self.protocol == "multi":
            return self.dataset.load_group(self._groups[i][1])
        try:
            return self.dataset.load(i), []
        except BadSampleError as error:
            return None, [error]


def run_units(
    units: Sequence[Unit], models: Sequence[Built], settings: Settings, journal: Journal,
    progress: Progress = lambda steps: None,
) -> None:
    """Run what the journal does not hold yet.

    Models take turns within a sample, so that a busy moment of the machine hits them all. Before
    its first sample of a unit every model is warmed up. Loading, click simulation and metrics are
    outside the measured times.

    Args:
        units: data sets with protocols.
        models: see `methods.catalogue.build`.
        settings: of all samples.
        journal: gets a line for every sample and model.
        progress: called with the number of (sample, model) pairs that are done.
    """
    done = {_key(e) for e in journal.entries if e["kind"] in ("sample", "skipped")}
    noted = {_key(e) for e in journal.entries if e["kind"] == "problems"}
    for unit in units:
        place = (unit.dataset.name, unit.protocol)
        for built in models:
            prepare(built, unit.dataset.name)
        warm: set[str] = set()
        for i in range(len(unit)):
            names = [b.spec.name for b in models]
            waiting = [b for b in models if (*place, b.spec.name, i) not in done]
            progress(len(names) - len(waiting))
            if (*place, None, i) in done or not waiting:
                progress(len(waiting))
                continue
            start = time.perf_counter()
            sample, problems = unit.load(i)
            load_s = time.perf_counter() - start
            head = {"dataset": place[0], "protocol": place[1], "index": i}
            if problems and (*place, None, i) not in noted:
                bad = [{"id": p.sample_id, "reason": p.reason} for p in problems]
                journal.add({"kind": "problems" if sample else "skipped", **head, "bad": bad})
            if sample is None:
                progress(len(waiting))
                continue
            for built in waiting:
                if built.spec.name not in warm:
                    warm_up(built, sample)
                    warm.add(built.spec.name)
                journal.add({**head, **_evaluate(built, unit, sample, settings, load_s)})
                progress(1)


def _key(entry: dict[str, Any]) -> tuple:
    return entry["dataset"], entry["protocol"], entry.get("model"), entry["index"]


def _evaluate(
    built: Built, unit: Unit, sample: Sample, settings: Settings, load_s: float
) -> dict[str, Any]:
    """A line of the journal."""
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
        units, models, settings, journal: as for `run_units`.
        head: what every run says of itself: threads ...
    """
    runs = []
    for unit in units:
        place = (unit.dataset.name, unit.protocol)
        here = [
            e for e in journal.entries
            if (e.get("dataset"), e.get("protocol")) == place and e["index"] < len(unit)
        ]
        skipped = [bad for e in here if e["kind"] in ("problems", "skipped") for bad in e["bad"]]
        for built in models:
            entries = [e for e in here if e.get("model") == built.spec.name]
            entries.sort(key=lambda e: e["index"])
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
