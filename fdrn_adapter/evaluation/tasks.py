"""What there is to do: passes over data sets, and the samples that wait."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fdrn_adapter.evaluation.datasets.catalogue import Dataset
from fdrn_adapter.evaluation.datasets.sample import BadSampleError, Sample


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

    def id_of(self, i: int) -> str:
        """Of a sample, or for `multi` of an image."""
        return self._groups[i][0] if self.protocol == "multi" else self.dataset.items[i].id

    def load(self, i: int) -> tuple[Sample | None, list[BadSampleError]]:
        """A sample (for `multi`, an image with its objects), and what is wrong with it."""
        if self.protocol == "multi":
            return self.dataset.load_group(self._groups[i][1])
        try:
            return self.dataset.load(i), []
        except BadSampleError as error:
            return None, [error]


@dataclass(frozen=True)
class Task:
    """A sample that waits.

    Attributes:
        unit: number of its unit.
        index: within the unit.
        name: for messages.
        models: names of those that it has not been through.
        noted: whether the journal has what is wrong with it already.
    """

    unit: int
    index: int
    name: str
    models: tuple[str, ...]
    noted: bool

    def __str__(self) -> str:
        return self.name


def waiting(
    units: Sequence[Unit], names: Sequence[str], entries: Sequence[dict[str, Any]]
) -> list[Task]:
    """What a journal's entries do not hold yet, of models with these names."""
    done = {_key(e) for e in entries if e["kind"] in ("sample", "skipped")}
    noted = {_key(e) for e in entries if e["kind"] == "problems"}
    tasks = []
    for number, unit in enumerate(units):
        place = (unit.dataset.name, unit.protocol)
        for i in range(len(unit)):
            left = tuple(name for name in names if (*place, name, i) not in done)
            if left and (*place, None, i) not in done:
                title = f"{place[0]} {unit.id_of(i)} (protocol {place[1]})"
                tasks.append(Task(number, i, title, left, (*place, None, i) in noted))
    return tasks


def _key(entry: dict[str, Any]) -> tuple:
    return entry["dataset"], entry["protocol"], entry.get("model"), entry["index"]
