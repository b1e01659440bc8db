"""What is done already, one line of JSON each, so that an interrupted benchmark can go on."""

import json
from pathlib import Path
from typing import Any

NAME = "journal.jsonl"


class Journal:
    """A file that grows by one line for every sample and model.

    Args:
        folder: of the results.
        config: everything the results depend on; plain values.
        resume: go on with the journal that is there.

    Raises:
        ValueError: there is one and `resume` is false, it was written with another configuration,
            or it is not a journal.
    """

    def __init__(self, folder: Path, config: dict[str, Any], resume: bool):
        self.path = folder / NAME
        self.entries: list[dict[str, Any]] = []
        config = json.loads(json.dumps(config))  # as it will be read: tuples become lists
        if self.path.exists():
            if not resume and self.path.read_bytes().count(b"\n") < 2:
                self.path.unlink()  # it ended before the first sample
            elif not resume:
                raise ValueError(
                    f"{self.path} holds the results of a benchmark. Pass --resume to go on with "
                    "it (a finished one is reported again), or another --out."
                )
            else:
                self._read(config)
        self._file = self.path.open("a", encoding="utf-8")
        if self._file.tell() == 0:
            self.add({"kind": "config", "config": config}, keep=False)

    def _read(self, config: dict[str, Any]) -> None:
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]  # a process that was killed leaves half a line
        lines = whole.decode("utf-8").splitlines()
        if lines:
            try:
                first, *self.entries = map(json.loads, lines)
                before = first["config"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path} is not a journal of `fdrn benchmark` ({error}); pass another "
                    "--out."
                ) from error
            _require_same(self.path, before, config)
        if len(whole) < len(text):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))

    def add(self, entry: dict[str, Any], keep: bool = True) -> None:
        """Append a line; it is on disk when this returns."""
        if keep:
            self.entries.append(entry)
        self._file.write(json.dumps(entry, separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _require_same(path: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    differences = [
        f"{key}: {_short(before.get(key))} then, {_short(now.get(key))} now"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]
    if differences:
        raise ValueError(
            f"{path} was written with other settings and cannot be gone on with:\n  "
            + "\n  ".join(differences)
            + "\nRepeat the settings, or pass another --out."
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 200 else text[:200] + " ..."
