"""GlaS, the paper's glands in histology: every gland of an image is a sample."""

import re
from collections.abc import Iterator
from pathlib import Path

from fdrn_adapter.evaluation.datasets.layout import (
    Item,
    Layout,
    Read,
    items_of_labels,
    read_instance,
)

_GLAS_IMAGES = (".bmp", ".png", ".tif", ".jpg")


def _find_glas(root: Path, name: str, layout: Layout) -> tuple[Iterator[Item], Read]:
    found = sorted(
        (p for p in root.rglob("*_anno.*") if p.suffix.lower() in _GLAS_IMAGES), key=_natural
    )
    test = [p for p in found if p.name.startswith("test")]
    return _glas_items(test or found), read_instance


def _natural(path: Path) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.name)]


def _glas_items(annotations: list[Path]) -> Iterator[Item]:
    for path in annotations:
        name = path.stem.removesuffix("_anno")
        places = [path.with_name(name + suffix) for suffix in _GLAS_IMAGES]
        image = next((p for p in places if p.is_file()), places[0])
        yield from items_of_labels(name, image, path)


GLAS = Layout(
    "GlaS",
    "images NAME.bmp with instance annotations NAME_anno.bmp (or .png) anywhere below {root}; "
    "where there are files test*, these alone are used (the 80 images of the paper)",
    _find_glas,
)
