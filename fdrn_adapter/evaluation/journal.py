"""What is done already, one line of JSON each, so that an interrupted benchmark can go on."""

import json
import logging
import math
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

NAME = "journal.jsonl"
_SHOWN = 5


class Journal:
    """A file that grows by one line for every sample and model.

    Lines that are damaged, or that say again what another said before, are left out when it is
    gone on with; their samples are run anew.

    Args:
        folder: of the results; the caller is its only writer (`output_folders.only_writer`).
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
        self._file = self.path.open("ab", buffering=0)
        if self._file.tell() == 0:
            self.add({"kind": "config", "config": config}, keep=False)

    def _read(self, config: dict[str, Any]) -> None:
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]  # a process that was killed leaves half a line
        lines = whole.split(b"\n")[:-1]
        if lines:
            try:
                before = json.loads(lines[0].decode("utf-8-sig"))["config"]
                if not isinstance(before, dict):
                    raise TypeError("its config is no dict")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ValueError(
                    f"{self.path} is not a journal of `fdrn benchmark` ({error}); pass another "
                    "--out."
                ) from error
            _require_same(self.path, before, config)
            self._take(lines[1:])
        if len(whole) < len(text):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))

    def _take(self, lines: list[bytes]) -> None:
        seen, dropped = set(), []
        for number, line in enumerate(lines, 2):
            try:
                entry = json.loads(line.decode("utf-8-sig"))
                reason = _unfit(entry)
            except (ValueError, RecursionError) as error:
                entry, reason = None, str(error)
            key = None if reason else key_of(entry)
            if not reason and key in seen:
                reason = "said before"
            if reason:
                dropped.append(f"line {number} ({reason[:80]})")
                continue
            seen.add(key)
            self.entries.append(entry)
        if dropped:
            more = f" and {len(dropped) - _SHOWN} more" if len(dropped) > _SHOWN else ""
            logger.warning(
                "%s: left out %s%s; samples without a line are run anew", self.path,
                ", ".join(dropped[:_SHOWN]), more,
            )

    def add(self, entry: dict[str, Any], keep: bool = True) -> None:
        """Append a line; the system has it when this returns.

        Raises:
            OSError: it cannot be written; names the file and says how to go on.
        """
        line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
        start = self._file.seek(0, 2)
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(28, "No space left on device")
        except OSError as error:
            self._file.truncate(start)
            raise OSError(
                error.errno, f"{error.strerror}: what is done is in {self.path}; make room, then "
                "the same command with --resume goes on"
            ) from error
        if keep:
            self.entries.append(entry)

    def close(self) -> None:
        self._file.close()


def key_of(entry: dict[str, Any]) -> tuple:
    """What an entry is about; a second one about the same says nothing new."""
    kind = entry["kind"]
    place = (entry.get("dataset"), entry.get("protocol"), entry.get("model"), entry.get("index"))
    # A skipped sample is one that is done, for all models.
    return ("problems" if kind == "problems" else kind, *place)


def _unfit(entry: Any) -> str:
    """Why a line is none of a journal, empty where it is one."""
    if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
        return "no entry"
    kind = entry["kind"]
    if kind == "speed":
        return "" if _dicts(entry.get("runs")) else "no runs"
    if kind not in ("sample", "skipped", "problems"):
        return f"unknown kind {kind!r}"
    index = entry.get("index")
    texts = ("dataset", "protocol", *(["model"] if kind == "sample" else []))
    if not all(isinstance(entry.get(name), str) for name in texts) or \
            isinstance(index, bool) or not isinstance(index, int) or index < 0:
        return "no place"
    if kind != "sample":
        bad = entry.get("bad")
        good = _dicts(bad) and all(
            isinstance(b.get("id"), str) and isinstance(b.get("reason"), str) for b in bad
        )
        return "" if good else "no reasons"
    numbers = (entry.get("seconds"), entry.get("peak_memory_mb"))
    if not all(map(_number, numbers)) or not _dicts(entry.get("records")) \
            or not all(map(_is_record, entry["records"])):
        return "no records"
    return ""


def _is_record(record: dict[str, Any]) -> bool:
    lists = [record.get(name) for name in ("ious", "clicks", "ms")]
    return isinstance(record.get("id"), str) and all(isinstance(v, list) and v for v in lists) \
        and len(set(map(len, lists))) == 1 and all(map(_number, (*lists[0], *lists[2]))) \
        and all(isinstance(c, list) and len(c) == 3 and all(map(_number, c)) for c in lists[1]) \
        and ("encode_ms" not in record or _number(record["encode_ms"]))


def _dicts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


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
