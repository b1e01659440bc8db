"""Masks in files that other programs read: COCO JSON, palette label maps, labelme JSON, PNG."""

import base64
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fdrn_adapter.coco import flat_polygons, rle_of
from fdrn_adapter.label_maps import VOID
from fdrn_adapter.outlines import outlines, polygons
from fdrn_adapter.output_folders import whole_file

LABELME_VERSION = "6.3.1"  # whose format this is; its loader compares only the first number


@dataclass(frozen=True)
class NamedMask:
    """An object for a file: what it is called, its pixels (H, W) bool, and how sure they are."""

    label: str
    mask: np.ndarray
    score: float | None = None


# -- pictures ----------------------------------------------------------------------------------


def palette() -> list[int]:
    """256 colours that are easy to tell apart, as PASCAL VOC orders them: R, G, B, R, G ...

    The bits of the number, lowest first, go to red, green and blue in turn, highest first.
    """
    colours = []
    for number in range(256):
        colours += [
            sum((number >> 3 * bit + channel & 1) << 7 - bit for bit in range(3))
            for channel in range(3)
        ]
    return colours


def mask_png(mask: np.ndarray) -> bytes:
    """A mask (H, W) as a PNG of 0 and 255."""
    return _png(Image.fromarray(np.asarray(mask, bool).astype(np.uint8) * 255))


def label_map_png(labels: np.ndarray) -> bytes:
    """Labels (H, W) as a PNG: indices with a palette up to 254, 16-bit gray values beyond.

    255 is left free, since 8-bit label maps mean "void" by it.

    Raises:
        ValueError: a label below 0 or above 65535.
    """
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high > 65535:
        raise ValueError(f"A label map holds 0 to 65535, got {low} to {high}.")
    if high >= VOID:
        return _png(Image.fromarray(labels.astype(np.uint16)))
    picture = Image.fromarray(labels.astype(np.uint8), "P")
    picture.putpalette(palette())
    return _png(picture)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


# -- COCO --------------------------------------------------------------------------------------


def coco_document(
    images: Iterable[tuple[str, tuple[int, int], Sequence[NamedMask]]], as_polygons: bool = False,
    tolerance_px: float = 0.0,
) -> dict[str, Any]:
    """Objects of images as COCO's annotations.

    Args:
        images: file name, (rows, columns) and objects of each; an object of another label is of
            another category. Empty masks are left out.
        as_polygons: polygons, whose holes are joined to their borders, in place of RLE.
        tolerance_px: of polygons, see `outlines`.

    Returns:
        what `json.dump` writes and pycocotools reads.
    """
    categories: dict[str, int] = {}
    listed, annotations = [], []
    for number, (name, (rows, cols), objects) in enumerate(images, 1):
        listed.append({"id": number, "file_name": name, "height": rows, "width": cols})
        for o in objects:
            if not o.mask.any():
                continue
            entry = _annotation(o.mask, as_polygons, tolerance_px)
            entry["category_id"] = categories.setdefault(o.label, len(categories) + 1)
            entry.update(id=len(annotations) + 1, image_id=number)
            if o.score is not None:
                entry["score"] = round(o.score, 4)
            annotations.append(entry)
    return {
        "images": listed, "annotations": annotations,
        "categories": [{"id": i, "name": name} for name, i in categories.items()],
    }


def _annotation(mask: np.ndarray, as_polygons: bool, tolerance_px: float) -> dict[str, Any]:
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [cols[0], rows[0], cols[-1] - cols[0] + 1, rows[-1] - rows[0] + 1]
    return {
        "segmentation": flat_polygons(mask, tolerance_px) if as_polygons else rle_of(mask),
        "area": int(mask.sum()), "bbox": [int(v) for v in box], "iscrowd": 0,
    }


# -- labelme -----------------------------------------------------------------------------------


def labelme_document(
    image_name: str, size: tuple[int, int], objects: Sequence[NamedMask],
    tolerance_px: float = 0.0,
) -> dict[str, Any]:
    """The objects of an image as labelme's annotations; the image stays in its file.

    Parts are polygons, grouped by object; an object with holes, which polygons of labelme do not
    have, is one of labelme's masks.

    Args:
        image_name: path of the image from where the JSON file will lie.
        size: rows and columns of the image.
        objects: empty masks are left out.
        tolerance_px: of polygons, see `outlines`.
    """
    shapes = []
    for group, o in enumerate(objects):
        if not o.mask.any():
            continue
        if any(holes for _, holes in outlines(o.mask)):
            shapes.append(_labelme_mask(o))
            continue
        rings = polygons(o.mask, tolerance_px)
        for ring in rings:
            shapes.append({
                "label": o.label, "points": ring.tolist(), "shape_type": "polygon",
                "group_id": group if len(rings) > 1 else None, "flags": {}, "description": "",
                "mask": None,
            })
    return {
        "version": LABELME_VERSION, "flags": {}, "shapes": shapes, "imagePath": image_name,
        "imageData": None, "imageHeight": size[0], "imageWidth": size[1],
    }


def _labelme_mask(o: NamedMask) -> dict[str, Any]:
    rows, cols = np.flatnonzero(o.mask.any(1)), np.flatnonzero(o.mask.any(0))
    top, bottom, left, right = (int(v) for v in (rows[0], rows[-1], cols[0], cols[-1]))
    part = np.asarray(o.mask[top : bottom + 1, left : right + 1], bool)
    return {
        "label": o.label, "points": [[left, top], [right, bottom]], "shape_type": "mask",
        "group_id": None, "flags": {}, "description": "",
        "mask": base64.b64encode(_png(Image.fromarray(part))).decode("ascii"),
    }


# -- files -------------------------------------------------------------------------------------


def write_output(path: str | Path, content: bytes | dict[str, Any]) -> None:
    """Write a picture or a document; it is whole, or what was there before stays."""
    path = Path(path)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    with whole_file(path) as aside:
        aside.write_bytes(data)
