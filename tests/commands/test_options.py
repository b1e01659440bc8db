"""Arguments that several commands have."""

import re

import pytest
from support.source import REPOSITORY

from fdrn_adapter import cli
from fdrn_adapter.commands import options
from fdrn_adapter.engines import choice, engine

SHARED = ("codebase", "device", "engine", "jobs", "ray", "seed", "threads")


def test_they_are_declared_once():
    """`fdrn run` alone has a --codebase of its own: its module also runs without `fdrn`."""
    declared = {}
    for path in (REPOSITORY / "fdrn_adapter").rglob("*.py"):
        for name in re.findall(r"\"--(\w+)\"", path.read_text()):
            declared.setdefault(name, set()).add(path.name)
    assert declared.pop("codebase") == {"options.py", "launcher.py"}
    assert all(declared[name] == {"options.py"} for name in SHARED[1:])


@pytest.mark.parametrize(
    "command", ["demo", "benchmark", "profile", "segment", "serve", "annotate", "labelme"]
)
def test_every_engine_is_named(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in choice.names())


def test_precision_reaches_all_engines_of_a_command_and_no_other(monkeypatch):
    monkeypatch.setenv("FDRN_PRECISION", "exact")
    seen = []
    monkeypatch.setattr("fdrn_adapter.commands.cache.main", lambda args: seen.append(
        engine.precision_of(None)) or 0)
    monkeypatch.setattr("fdrn_adapter.commands.cache.add_arguments", options.add_engine)
    assert cli.main(["cache", "--precision", "fast"]) == cli.main(["cache"]) == 0
    assert seen == ["fast", "exact"] and engine.precision_of(None) == "exact"
