"""Masks that exist already, from the files that `exports` writes and other programs do too."""

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fdrn_adapter.annotate.annotator import Annotator
from fdrn_adapter.annotate.edits import checked_points
from fdrn_adapter.coco import images_of
from fdrn_adapter.images import decoded
from fdrn_adapter.label_maps import instance_labels, read_label_map, why_no_labels
from fdrn_adapter.outlines import filled

Found = list[tuple[str, np.ndarray]]  # class and mask of each object


def take(annotator: Annotator, name: str, content: bytes) -> dict[str, Any]:
    """Put the objects of a file on the photographs that it is about, each as a step to undo.

    Args:
        annotator: of the photographs.
        name: of the file; label maps are found by it, as `cat.jpg.png` or `cat.png` for cat.jpg.
        content: a COCO or labelme JSON, or a PNG label map.

    Returns:
        how many "objects" on which "images", and what was "skipped", for people.

    Raises:
        ValueError: nothing of it can be used; the message says why.
    """
    if content[:1] in (b"{", b"\xef"):
        try:
            stored = json.loads(content.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name} is not JSON: {error}.") from error
        take_document = _coco if "annotations" in stored else _labelme
        return take_document(annotator, name, stored)
    photograph = _photograph(annotator, name)
    number = annotator.add_objects(photograph, _label_map(name, content))
    return {"objects": number, "images": [photograph], "skipped": []}


def _coco(annotator: Annotator, name: str, stored: dict[str, Any]) -> dict[str, Any]:
    here = {photograph.lower(): photograph for photograph in annotator.project.names()}
    number, images, skipped = 0, [], []
    for image in images_of(stored, name):
        photograph = here.get(Path(image.file_name.replace("\\", "/")).name.lower())
        if photograph is None:
            skipped.append(f"{image.file_name}: not in the folder")
            continue
        try:
            number += annotator.add_objects(
                photograph, [(o.category, o.mask()) for o in image.objects if not o.crowd]
            )
            images.append(photograph)
        except ValueError as error:
            skipped.append(f"{image.file_name}: {error}")
    return {"objects": number, "images": images, "skipped": skipped}


def _labelme(annotator: Annotator, name: str, stored: dict[str, Any]) -> dict[str, Any]:
    try:
        shapes, size = stored["shapes"], (int(stored["imageHeight"]), int(stored["imageWidth"]))
        path = str(stored.get("imagePath") or name)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{name} is neither COCO's nor labelme's JSON: {error!r}.") from error
    photograph = _photograph(annotator, path, name)
    found: dict[Any, tuple[str, np.ndarray]] = {}
    skipped = []
    for place, shape in enumerate(shapes):
        try:
            mask = _shape(shape, size)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            skipped.append(f"{name}, shape {place + 1}: {error}")
            continue
        label, group = str(shape.get("label", "")), shape.get("group_id")
        key = (label, group) if group is not None else place
        found[key] = (label, mask | found[key][1] if key in found else mask)
    number = annotator.add_objects(photograph, list(found.values()))
    return {"objects": number, "images": [photograph], "skipped": skipped}


def _shape(shape: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """The mask (H, W) bool of a labelme shape."""
    kind, points = shape.get("shape_type", "polygon"), checked_points(shape["points"], 2)
    if kind == "polygon":
        return filled([checked_points(points, 3)], size)
    (x1, y1), (x2, y2) = points[:2]
    if kind == "rectangle":
        return filled([np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])], size)
    if kind == "circle":
        rows, cols = np.ogrid[: size[0], : size[1]]
        radius = (x2 - x1) ** 2 + (y2 - y1) ** 2
        return (cols + 0.5 - x1) ** 2 + (rows + 0.5 - y1) ** 2 <= radius
    if kind == "mask":
        data = np.frombuffer(base64.b64decode(shape["mask"]), np.uint8)
        part = decoded(data, cv2.IMREAD_GRAYSCALE, "the mask") > 0
        mask = np.zeros(size, bool)
        left, top = int(x1), int(y1)
        mask[top : top + part.shape[0], left : left + part.shape[1]] = part
        return mask
    raise ValueError(f"a {kind} has no area")


def _label_map(name: str, content: bytes) -> Found:
    """The objects of a label map, or the one of a mask of 0 and 255."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "label_map.png"
        path.write_bytes(content)
        try:
            labels = instance_labels(read_label_map(path))
        except ValueError as error:
            raise ValueError(f"{name}: {str(error).replace(str(path), 'the file')}") from error
    if reason := why_no_labels(labels):
        raise ValueError(f"{name}: {reason}.")
    return [("", labels == value) for value in np.unique(labels[labels > 0])]


def _photograph(annotator: Annotator, *names: str) -> str:
    """The photograph that a file is about, by its name."""
    here = annotator.project.names()
    for name in names:
        base = Path(name.replace("\\", "/")).name
        for wanted in (base, Path(base).stem):
            if wanted in here:
                return wanted
        same = [n for n in here if Path(n).stem == Path(base).stem]
        if len(same) == 1:
            return same[0]
    raise ValueError(
        f"{names[0]!r:.80} belongs to no photograph of the folder: name it as the photograph."
    )
