"""A folder of photographs, and the project folder in it with what was made of them."""

import contextlib
import csv
import io
import json
import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

from fdrn_adapter.annotate.autosave import Autosave
from fdrn_adapter.annotate.record import Record
from fdrn_adapter.output_folders import only_writer
from fdrn_adapter.serving.outputs import write_output

logger = logging.getLogger(__name__)

FOLDER = "fdrn_annotations"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
KEPT_RECORDS = 16  # in memory, of images that were left
COLUMNS = ("image", "finished", "object", "class", "done", "clicks", "strokes", "seconds", "area")
FINISHED, BEGUN, OPEN, DAMAGED = "finished", "begun", "open", "damaged"


class Project:
    """Photographs of a folder and their annotations; one process at a time works on them.

    In the project folder lie states/IMAGE.json with every step, classes.json, progress.csv, and
    what was exported. Each file is whole or what it was before.

    Args:
        folder: of the photographs; made if it is not there.

    Raises:
        ValueError: it cannot be written to.
        FolderInUseError: another process annotates it.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).absolute()
        self.place = self.folder / FOLDER
        self.states = self.place / "states"
        try:
            self.states.mkdir(parents=True, exist_ok=True)
            self._open = contextlib.ExitStack()
            self._open.enter_context(only_writer(self.place, "annotations"))
        except OSError as error:
            raise ValueError(
                f"{self.place} cannot be written to ({error.strerror}): annotations are kept "
                "there, beside the photographs. Copy these to a folder of yours."
            ) from error
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._summaries = self._read_summaries()
        self.classes: list[str] = self._read(self.place / "classes.json", [])
        self._autosave = Autosave(self._write_overview)

    # -- photographs ---------------------------------------------------------------------------

    def names(self) -> list[str]:
        """File names of the photographs, sorted."""
        return sorted(
            p.name for p in self.folder.iterdir()
            if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
            and _is_text(p.name)
        )

    def path(self, name: str) -> Path:
        """Where a photograph is.

        Raises:
            ValueError: there is none of that name.
        """
        path = self.folder / name
        if Path(name).name != name or path.suffix.lower() not in SUFFIXES or not path.is_file():
            raise ValueError(f"There is no photograph {name!r:.80} in the folder.")
        return path

    def add(self, name: str, content: bytes) -> str:
        """Put a photograph into the folder, under a name that is free. Returns the name.

        The same photograph again is not stored twice.
        """
        base = Path(name.replace("\\", "/")).name.lstrip(".")
        if Path(base).suffix.lower() not in SUFFIXES:
            raise ValueError(f"{name!r:.80} is none of {', '.join(SUFFIXES)}.")
        path, number = self.folder / base, 1
        while path.exists():
            if path.read_bytes() == content:
                return path.name
            number += 1
            path = self.folder / f"{Path(base).stem}-{number}{Path(base).suffix}"
        write_output(path, content)
        return path.name

    # -- annotations ---------------------------------------------------------------------------

    def record(self, name: str, size: tuple[int, int] | None = None) -> Record:
        """What is known of a photograph.

        Args:
            name: of the photograph.
            size: its rows and columns; a new record is made of them. None for one that exists.

        Raises:
            ValueError: the file is damaged, is of a photograph of another size, or is not there and
                no size is given.
        """
        record = self._records.get(name)
        if record is None:
            path = self._state_path(name)
            if path.is_file():
                record = self._loaded(path)
            elif size is not None:
                record = Record(size)
            else:
                raise ValueError(f"{name} has no annotations.")
        if size is not None and record.size != tuple(size):
            raise ValueError(
                f"{name} has {size[1]} x {size[0]} pixels, its annotations were made on "
                f"{record.size[1]} x {record.size[0]}: move {self._state_path(name)} away to start "
                "again, or put the photograph back."
            )
        self._remember(name, record)
        return record

    def _loaded(self, path: Path) -> Record:
        try:
            return Record.from_json(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(
                f"The annotations in {path} cannot be read: {error}. Move the file away to start "
                "again."
            ) from error

    def _remember(self, name: str, record: Record) -> None:
        self._records[name] = record
        self._records.move_to_end(name)
        for old in list(self._records)[:-KEPT_RECORDS]:
            if not self._autosave.waits(old):
                del self._records[old]

    def changed(self, name: str) -> None:
        """A record has another step: have it saved."""
        record = self._records[name].copy()
        self._summaries[name] = summary = summarised(record)
        for category in {o.category for o in record.objects} - set(self.classes) - {""}:
            self.classes.append(category)

        def write() -> None:
            write_output(self._state_path(name), record.for_json())
            stat = self._state_path(name).stat()
            summary["file"] = [stat.st_mtime_ns, stat.st_size]

        self._autosave.put(name, write)

    def names_with_objects(self) -> list[str]:
        """The photographs that have objects, sorted."""
        return [n for n in self.names() if self._summaries.get(n, {}).get("objects")]

    def flush(self) -> None:
        """Wait until all is on the disk."""
        self._autosave.flush()

    def close(self) -> None:
        """Save what waits, and let others in."""
        self._autosave.close()
        self._open.close()

    @property
    def save_error(self) -> str:
        """Why the last steps could not be saved, "" if they are or will be."""
        return self._autosave.error

    # -- progress ------------------------------------------------------------------------------

    def overview(self) -> dict[str, Any]:
        """The photographs with their state, and how far the work is."""
        images = [
            {"name": name, "state": found.get("state", OPEN),
             "objects": len(found.get("objects", ()))}
            for name in self.names() for found in (self._summaries.get(name, {}),)
        ]
        rows = [o for i in images for o in self._summaries.get(i["name"], {}).get("objects", ())]
        number = max(len(rows), 1)
        return {
            "folder": self.folder.name, "images": images, "classes": self.classes,
            "progress": {
                "images": len(images), "objects": len(rows),
                "finished": sum(i["state"] == FINISHED for i in images),
                "clicks_per_object": round(sum(o["clicks"] for o in rows) / number, 2),
                "seconds_per_object": round(sum(o["seconds"] for o in rows) / number, 1),
            },
        }

    def progress_csv(self) -> str:
        """A line for each object, and one for each photograph without any."""
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        for name in self.names():
            found = self._summaries.get(name, {})
            common = {"image": name, "finished": int(found.get("state") == FINISHED)}
            for row in found.get("objects") or [{}]:
                table.writerow({**common, **row})
        return text.getvalue()

    def _write_overview(self) -> None:
        write_output(self.place / "progress.csv", self.progress_csv().encode())
        write_output(self.place / "classes.json", json.dumps(self.classes).encode())
        write_output(self.place / "summaries.json", dict(self._summaries))

    def _read_summaries(self) -> dict[str, Any]:
        """Summaries of all states; only those are read that changed since they were summarised."""
        kept, found = self._read(self.place / "summaries.json", {}), {}
        for path in sorted(self.states.glob("*.json")):
            name, stat = path.name.removesuffix(".json"), path.stat()
            known = kept.get(name, {})
            if known.get("file") != [stat.st_mtime_ns, stat.st_size]:
                try:
                    known = summarised(self._loaded(path))
                except ValueError as error:
                    logger.warning("%s", error)
                    known = {"state": DAMAGED, "objects": []}
                known["file"] = [stat.st_mtime_ns, stat.st_size]
            found[name] = known
        return found

    @staticmethod
    def _read(path: Path, otherwise: Any) -> Any:
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return otherwise
        return found if isinstance(found, type(otherwise)) else otherwise

    def _state_path(self, name: str) -> Path:
        return self.states / f"{name}.json"


def summarised(record: Record) -> dict[str, Any]:
    """What the overview says of a record."""
    objects = [
        {"object": o.name, "class": o.category, "done": int(o.done), "clicks": o.made,
         "strokes": o.strokes, "seconds": round(o.seconds, 1), "area": o.mask.area}
        for o in record.objects
    ]
    state = FINISHED if record.finished else BEGUN if objects else OPEN
    return {"state": state, "objects": objects}


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        logger.warning("A file whose name is no text is left out: %r", name)
        return False
    return True
