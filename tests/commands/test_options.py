"""Arguments that several commands have."""

import re

import pytest
from support.source import REPOSITORY

from fdrn_adapter import cli
from fdrn_adapter.engines import choice

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
