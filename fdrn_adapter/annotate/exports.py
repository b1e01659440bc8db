"""The work on a folder in files that other programs read: COCO, PNG label maps, labelme."""

import csv
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fdrn_adapter.annotate.project import Project
from fdrn_adapter.annotate.record import Record
from fdrn_adapter.serving import outputs
from fdrn_adapter.serving.outputs import NamedMask, write_output

UNNAMED = "object"  # the class of objects without one


def _coco(project: Project) -> Iterator[tuple[str, bytes]]:
    images = ((name, record.size, _named(record)) for name, record in _records(project))
    yield "coco.json", json.dumps(outputs.coco_document(images)).encode()


def _label_maps(project: Project) -> Iterator[tuple[str, bytes]]:
    """Numbers of objects, later ones over earlier ones, and which number is which object."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("image", "value", "object", "class"))
    for name, record in _records(project):
        labels = np.zeros(record.size, np.int32)
        for number, version in enumerate(record.objects, 1):
            labels[version.mask.array] = number
            table.writerow((name, number, version.name, version.category))
        yield f"label_maps/{name}.png", outputs.label_map_png(labels)
    yield "label_maps/objects.csv", text.getvalue().encode()


def _labelme(project: Project) -> Iterator[tuple[str, bytes]]:
    for name, record in _records(project):
        document = outputs.labelme_document(f"../../{name}", record.size, _named(record))
        yield f"labelme/{name}.json", json.dumps(document).encode()


KINDS = {"coco": _coco, "label_maps": _label_maps, "labelme": _labelme}


def write(project: Project, kind: str) -> Path:
    """Write an export into the project folder, in place of an earlier one. Returns where.

    Raises:
        ValueError: a package is missing, or annotations cannot be read.
    """
    aside = project.place / f".{kind}.part"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        for name, content in KINDS[kind](project):
            path = aside / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_output(path, content)
        aside.mkdir(exist_ok=True)
        top = sorted(aside.iterdir())
        for made in top:
            place = project.place / made.name
            if place.is_dir():
                shutil.rmtree(place)
            made.replace(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return project.place / (top[0].name if top else "")


def as_download(project: Project, kind: str) -> tuple[str, bytes, str]:
    """An export as one file: its name, what is in it, and its kind.

    Raises:
        ValueError: as `write`.
    """
    if kind == "coco":
        (name, content), = _coco(project)
        return name, content, "application/json"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in KINDS[kind](project):
            archive.writestr(name, content)
    return f"{kind}.zip", buffer.getvalue(), "application/zip"


def _records(project: Project) -> Iterator[tuple[str, Record]]:
    for name in project.names_with_objects():
        yield name, project.record(name)


def _named(record: Record) -> list[NamedMask]:
    return [NamedMask(o.category or UNNAMED, o.mask.array) for o in record.objects]

