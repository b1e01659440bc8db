"""Tables that others may add to: host families, encoders, data sets, methods, patches.

A row is an object with a `name`. Rows of other packages come in two ways: a program calls
`TABLE.add(row)`, or an installed package announces the row as an entry point of the table's group:

    [options.entry_points]
    fdrn_adapter.hosts = mine = my_package.my_hosts:MY_FAMILY
"""

import functools
import importlib.metadata
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)

Row = TypeVar("Row")


class Table(Mapping[str, Row], Generic[Row]):
    """Rows by name: ours, then those that were added, in that order.

    Entry points are loaded when somebody asks for all rows, or for a name that is not there.

    Args:
        group: of the entry points.
        rows: ours.
    """

    def __init__(self, group: str, rows: Iterable[Row]):
        self.group = group
        self._rows: dict[str, Row] = {}
        self._searched: tuple[str, ...] | None = None  # sys.path when entry points were loaded
        self._removed: list[Row] = []  # not to come back by being announced
        for row in rows:
            self.add(row)

    def add(self, row: Row) -> Row:
        """Add a row at the end and return it.

        Raises:
            ValueError: there is one of that name.
        """
        if row.name in self._rows:
            raise ValueError(
                f"{self.group} has a row {row.name!r} already ({self._rows[row.name]!r}); give the "
                "new one another name, or remove that one first."
            )
        self._rows[row.name] = row
        return row

    def remove(self, name: str) -> Row:
        """Take a row out and return it; it stays out until somebody adds it."""
        self._removed.append(self._rows.pop(name))
        return self._removed[-1]

    def __getitem__(self, name: str) -> Row:
        if name not in self._rows:
            self._load_entry_points()
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        self._load_entry_points()
        return iter(list(self._rows))

    def __len__(self) -> int:
        self._load_entry_points()
        return len(self._rows)

    def _load_entry_points(self) -> None:
        """Add what installed packages announce; a broken one is passed by with a warning."""
        path = tuple(sys.path)
        if self._searched == path:
            return
        self._searched = path
        for point in _announced(path):
            if point.group != self.group:
                continue
            try:
                row = point.load()
                known = [*self._removed, self._rows.get(row.name)]
                if not any(row is one for one in known):
                    self.add(row)
            except Exception as error:  # whatever somebody else's module raises
                logger.warning(
                    "%s = %s, an entry point of %s, is left out: %s: %s", point.name, point.value,
                    self.group, type(error).__name__, error,
                )


@functools.lru_cache(maxsize=1)  # reading what is installed takes 25 ms
def _announced(path: tuple[str, ...]) -> list[importlib.metadata.EntryPoint]:
    """The entry points of all our groups that packages on sys.path announce."""
    points = importlib.metadata.entry_points()
    groups = [group for group in points.groups if group.startswith("fdrn_adapter.")]
    return [point for group in groups for point in points.select(group=group)]
