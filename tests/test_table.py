"""Tables: rows added by a program, and rows that installed packages announce."""

import importlib
import sys
from dataclasses import dataclass

import pytest
from support.codebase_fixtures import write_files

from fdrn_adapter.table import Table

GROUP = "fdrn_adapter.toys"


@dataclass(frozen=True)
class Row:
    name: str


@pytest.fixture
def table():
    return Table(GROUP, (Row("a"), Row("b")))


def announce(folder, monkeypatch, entry_points: str, **modules: str) -> None:
    """Install a package with these modules and entry points."""
    write_files(folder, {f"toys_package/{name}.py": text for name, text in modules.items()})
    info = folder / "toys_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entry_points}\n")
    monkeypatch.syspath_prepend(folder)
    for name in [n for n in sys.modules if n.partition(".")[0] == "toys_package"]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()


def test_rows_are_found_in_order_added_and_removed(table):
    assert list(table) == ["a", "b"] and len(table) == 2 and table["b"] == Row("b")
    assert table.add(Row("0")) == Row("0") and list(table) == ["a", "b", "0"]
    with pytest.raises(ValueError, match="fdrn_adapter.toys has a row 'a' already"):
        table.add(Row("a"))
    assert table.remove("a") == Row("a") and "a" not in table
    with pytest.raises(KeyError):
        table["a"]


ROWS = """
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Row:
        name: str

    C, D, AGAIN = Row("c"), Row("d"), Row("a")
"""


def test_installed_packages_announce_rows(table, tmp_path, monkeypatch):
    assert "c" not in table  # looked for once, before the package is there
    announce(tmp_path, monkeypatch, "c = toys_package.rows:C\nd = toys_package.rows:D", rows=ROWS)
    assert "toys_package.rows" not in sys.modules
    assert table["a"] == Row("a") and "toys_package.rows" not in sys.modules  # not needed so far
    assert table["d"].name == "d" and list(table) == ["a", "b", "c", "d"]
    table.remove("c")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")  # another search does not bring it back
    assert list(table) == ["a", "b", "d"]


def test_broken_ones_are_left_out_with_a_warning(table, tmp_path, monkeypatch, caplog):
    announce(
        tmp_path, monkeypatch,
        "again = toys_package.rows:AGAIN\nbroken = toys_package.broken:ROW\n"
        "c = toys_package.rows:C\nnone = toys_package.rows:NONE",
        rows=ROWS, broken="raise OSError('no such device')",
    )
    assert list(table) == ["a", "b", "c"] and table["a"] == Row("a")
    for text in ("row 'a' already", "no such device", "NONE", "is left out"):
        assert text in caplog.text
