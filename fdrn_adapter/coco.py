"""COCO's annotation files: masks as RLE and polygons, written and read with pycocotools."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.outlines import polygons


class CocoError(ValueError):
    """A file is not what COCO's annotations look like, or an entry of it is damaged."""


def mask_functions() -> Any:
    """pycocotools.mask.

    Raises:
        ValueError: it is not installed; the message says what to do.
    """
    try:
        from pycocotools import mask  # an extra
    except ImportError as error:
        raise ValueError(
            "COCO annotations need pycocotools, which is not installed: pip install "
            "'fdrn_adapter[coco]'."
        ) from error
    return mask


def rle_of(mask: np.ndarray) -> dict[str, Any]:
    """A mask (H, W) as COCO's compressed RLE, ready for JSON."""
    found = mask_functions().encode(np.asfortranarray(mask, np.uint8))
    return {"size": [int(n) for n in found["size"]], "counts": found["counts"].decode("ascii")}


def flat_polygons(mask: np.ndarray, tolerance_px: float = 0.0) -> list[list[float]]:
    """A mask (H, W) as COCO's polygons [x, y, x, y ...], holes joined to their borders."""
    return [ring.ravel().tolist() for ring in polygons(mask, tolerance_px)]


def mask_of(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """A COCO segmentation as a mask (H, W) bool.

    Args:
        segmentation: polygons, RLE with a list of counts, or compressed RLE.
        size: rows and columns of the image.

    Raises:
        CocoError: none of these, or of another size.
    """
    functions, (rows, cols) = mask_functions(), size
    try:
        if isinstance(segmentation, dict):
            if list(segmentation["size"]) != [rows, cols]:
                raise ValueError(f"its size is {segmentation['size']}, not {[rows, cols]}")
            if isinstance(segmentation["counts"], list):
                if sum(segmentation["counts"]) != rows * cols:
                    raise ValueError("its counts do not fill the image")
                segmentation = functions.frPyObjects(segmentation, rows, cols)
        else:
            rings = [[float(v) for v in ring] for ring in segmentation if len(ring) >= 6]
            if not rings:
                raise ValueError("it has no polygon of three corners or more")
            segmentation = functions.merge(functions.frPyObjects(rings, rows, cols))
        return functions.decode(segmentation).astype(bool)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise CocoError(f"This is no COCO segmentation: {error}.") from error


@dataclass(frozen=True)
class CocoObject:
    """An object of a COCO image; `mask()` gives its pixels."""

    id: int
    category: str
    crowd: bool
    segmentation: Any
    size: tuple[int, int]

    def mask(self) -> np.ndarray:
        """(H, W) bool; raises CocoError where the segmentation is damaged."""
        try:
            return mask_of(self.segmentation, self.size)
        except CocoError as error:
            raise CocoError(f"annotation {self.id}: {error}") from error


@dataclass(frozen=True)
class CocoImage:
    """An image of a COCO file with its objects, crowds included."""

    id: int
    file_name: str
    size: tuple[int, int]
    objects: tuple[CocoObject, ...]

    def label_map(self) -> np.ndarray:
        """(H, W) int32: 0 background, N the Nth object, -1 crowds; small ones cover large ones."""
        labels = np.zeros(self.size, np.int32)
        masks = [o.mask() for o in self.objects]
        for index in sorted(range(len(masks)), key=lambda i: -int(masks[i].sum())):
            labels[masks[index]] = -1 if self.objects[index].crowd else index + 1
        return labels


def read_coco(path: str | Path) -> list[CocoImage]:
    """The images of a COCO file, in its order, with their objects.

    Raises:
        CocoError: not such a file; what is missing is named.
    """
    try:
        stored = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CocoError(f"{path} is not a COCO file: {error!r}.") from error
    return images_of(stored, str(path))


def images_of(stored: Any, source: str) -> list[CocoImage]:
    """The images of what a COCO file holds, as `read_coco`.

    Args:
        stored: from JSON.
        source: of it, for messages.
    """
    try:
        return list(_images(stored))
    except (
        KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError
    ) as error:
        raise CocoError(
            f"{source} is not a COCO file with images, annotations and categories: {error!r}."
        ) from error


def _images(stored: dict[str, Any]) -> Iterator[CocoImage]:
    names = {c["id"]: c["name"] for c in stored.get("categories", ())}
    by_image: dict[int, list[dict]] = {image["id"]: [] for image in stored["images"]}
    for annotation in stored["annotations"]:
        if annotation.get("segmentation"):  # boxes alone are no objects to segment
            by_image[annotation["image_id"]].append(annotation)
    for image in stored["images"]:
        size = (int(image["height"]), int(image["width"]))
        objects = tuple(
            CocoObject(
                a["id"], names.get(a.get("category_id"), ""), bool(a.get("iscrowd")),
                a["segmentation"], size,
            )
            for a in by_image[image["id"]]
        )
        yield CocoImage(image["id"], image["file_name"], size, objects)
