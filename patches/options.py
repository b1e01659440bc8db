"""What the user asked of this run, for the patches that need to know.

Patches act inside stock modules, which have no argument for our wishes; the process that runs a
stock script has exactly one set of them. `fdrn run` fills it in, library users leave it alone.
"""

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

ENVIRONMENT_VARIABLE = "FDRN_RUN_OPTIONS"


@dataclass
class RunOptions:
    """Wishes of one run.

    Attributes:
        cpu: run on the CPU even where the stock code names CUDA.
        config: entries that override every config file the stock loader reads; a dotted key
            reaches into a nested entry.
        root: folder of the checkout, whose config.yml is the last resort of the stock loader.
        trust_checkpoints: allow checkpoints that contain arbitrary pickled objects.
    """

    cpu: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    root: Path | None = None
    trust_checkpoints: bool = False

    def export(self) -> None:
        """Hand the options to child processes (data loader workers, spawned converters)."""
        wishes = asdict(self)
        wishes["root"] = None if self.root is None else str(self.root)
        os.environ[ENVIRONMENT_VARIABLE] = json.dumps(wishes)


current = RunOptions()


def set_current(options: RunOptions) -> None:
    """Make `options` the wishes of this process."""
    for wish in fields(RunOptions):
        setattr(current, wish.name, getattr(options, wish.name))


def from_environment() -> RunOptions | None:
    """The options of the process that started this one, or None if it exported none."""
    text = os.environ.get(ENVIRONMENT_VARIABLE)
    if not text:
        return None
    wishes = json.loads(text)
    wishes["root"] = None if wishes["root"] is None else Path(wishes["root"])
    return RunOptions(**wishes)


def override(config: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Write `overrides` into `config` in place; `A.B` sets entry B of entry A."""
    for key, value in overrides.items():
        *parents, last = key.split(".")
        level = config
        for parent in parents:
            if not isinstance(level.get(parent), dict):
                level[parent] = type(level)()
            level = level[parent]
        level[last] = value
    return config
