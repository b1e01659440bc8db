"""Evaluation data sets: the stock layouts, medical ones, and any folder of images and masks."""

import difflib
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fdrn_adapter.evaluation.datasets import brats, coco, folders, glas, pairs, pascal_voc, sbd
from fdrn_adapter.evaluation.datasets.layout import Item, Layout, Read
from fdrn_adapter.evaluation.datasets.sample import BadSampleError, Sample, as_sample, joined
from fdrn_adapter.table import Table

FOLDER, FOLDER_255 = folders.NAME, folders.NAME_255

# In the order of the paper.
LAYOUTS: Table[Layout] = Table("fdrn_adapter.datasets", (
    pairs.GRABCUT, pairs.BERKELEY, pairs.DAVIS, sbd.SBD, pascal_voc.PASCAL_VOC, pairs.COCO_MVAL,
    glas.GLAS, brats.BRATS, *brats.OTHERS, coco.COCO, folders.FOLDER, folders.FOLDER_255,
))


@dataclass
class Dataset:
    """Samples by number.

    Attributes:
        name: for tables, unique in a run.
        items: one for each sample, in order.
        read: gives image and mask of an item; raises BadSampleError.
    """

    name: str
    items: list[Item]
    read: Read = field(repr=False)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def ids(self) -> list[str]:
        return [item.id for item in self.items]

    def load(self, i: int) -> Sample:
        """Read a sample.

        Raises:
            BadSampleError: it cannot be evaluated; named, with the reason.
        """
        item = self.items[i]
        if item.problem:
            raise BadSampleError(item.id, item.problem)
        return as_sample(item.id, *self.read(item))

    def groups(self) -> list[tuple[str, list[int]]]:
        """The images, each with the numbers of its samples."""
        found: dict[str, list[int]] = {}
        for i, item in enumerate(self.items):
            found.setdefault(item.image_id, []).append(i)
        return list(found.items())

    def load_group(self, indices: Iterable[int]) -> tuple[Sample | None, list[BadSampleError]]:
        """All objects of an image in one sample, and what was wrong with those left out."""
        good, bad, image_id = [], [], ""
        for i in indices:
            image_id = self.items[i].image_id
            try:
                good.append(self.load(i))
            except BadSampleError as error:
                bad.append(error)
        return (joined(image_id, good) if good else None), bad

    def by_id(self, sample_id: str) -> Sample:
        """Read the sample with that id."""
        return self.load(self.ids.index(sample_id))


# -- opening -----------------------------------------------------------------------------------


def open_dataset(spec: str, limit: int | None = None) -> Dataset:
    """Find a data set.

    Args:
        spec: "Name=DIR" with a name of LAYOUTS, or "folder:DIR", or "ANY=folder:DIR".
        limit: take the first so many samples only; the others are not looked for.

    Raises:
        ValueError: unknown name, or the folder is not there, not laid out so, or empty.
    """
    name, directory, layout = split_spec(spec)
    root = Path(directory).expanduser()
    if not root.is_dir():
        raise ValueError(
            f"{name}: there is no folder {directory}. Expected: {layout.text.format(root=root)}."
        )
    items, read = layout.find(root, name, layout)
    items = list(itertools.islice(items, limit))
    if not items:
        raise ValueError(
            f"{name}: no sample in {root}. Expected: {layout.text.format(root=root)}."
        )
    return Dataset(name, items, read)


def split_specs(text: str) -> list[str]:
    """The data sets of an argument, separated by commas; `\\,` is a comma in a path."""
    parts = re.split(r"(?<!\\),", text)
    return [part.strip().replace("\\,", ",") for part in parts if part.strip()]


def split_spec(spec: str) -> tuple[str, str, Layout]:
    """Name, folder and layout of a data set as written on the command line.

    Raises:
        ValueError: not of that form, or an unknown name.
    """
    name, equals, directory = spec.partition("=")
    for kind in (FOLDER, FOLDER_255):
        if spec.startswith(kind + ":"):
            directory = spec.partition(":")[2]
            return Path(directory).resolve().name or kind, directory, LAYOUTS[kind]
        if equals and directory.startswith(kind + ":"):
            return name, directory.partition(":")[2], LAYOUTS[kind]
    if not equals or not name or not directory:
        raise ValueError(
            f"A data set is written Name=DIR or folder:DIR, got {spec!r}. Names: "
            f"{', '.join(names())}. A comma in a path is written \\,"
        )
    by_lower = {n.lower(): n for n in names()}
    if name.lower() not in by_lower:
        close = difflib.get_close_matches(name.lower(), by_lower, 2, 0.5)
        meant = f" Did you mean {' or '.join(by_lower[c] for c in close)}?" if close else ""
        raise ValueError(
            f"There is no data set {name!r}.{meant} Allowed: {', '.join(names())}; anything else "
            f"as {name}=folder:DIR."
        )
    name = by_lower[name.lower()]
    return name, directory, LAYOUTS[name]


def names() -> list[str]:
    """The data sets that have a name."""
    return [name for name in LAYOUTS if name not in (FOLDER, FOLDER_255)]


def layouts() -> dict[str, Layout]:
    """Every data set by name, in the order of the paper."""
    return dict(LAYOUTS)
