"""Which mask is which image's, in a folder of each: one rule for training and evaluation."""

import re
from collections.abc import Sequence
from pathlib import Path

NOT_IMAGES = {".txt", ".md", ".json", ".csv", ".db", ".ini", ".yml", ".yaml"}
# What a mask's name may have behind its image's.
ENDINGS = ("_mask", "_masks", "_gt", "_label", "_labels", "_instances", "_seg")
_LOSSY = (".jpg", ".jpeg", ".webp")
_NUMBERED = re.compile(r"(.+)_\d+")
_SHOWN = 3


def files_in(folder: Path) -> list[Path]:
    """Files that are meant as pictures, sorted by name as the stock code does."""
    return sorted(
        p for p in folder.glob("*.*")
        if p.is_file() and not p.name.startswith(".") and p.suffix.lower() not in NOT_IMAGES
    )


def printable(name: str) -> str:
    """A name as it can be written down; bytes of it that are no text as backslash escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def names_of(images: Sequence[Path]) -> list[str]:
    """A name for each image: its stem, or all of it where another has that stem."""
    stems = [path.stem for path in images]
    return [path.stem if stems.count(path.stem) == 1 else path.name for path in images] \
        if len(set(stems)) < len(stems) else stems


class Masks:
    """The masks in a folder, found by the name of their image.

    The first of these that exists: a file of the image's stem (of several the lossless one); of its
    name up to the first dot, as in the stock code; of its stem and one of ENDINGS; files NAME_1,
    NAME_2 ... for an object each. What is named exactly as another image is that one's alone.

    Args:
        folder: of the masks.
        images: all images.
    """

    def __init__(self, folder: Path, images: Sequence[Path]):
        files = sorted(files_in(folder), key=lambda p: (p.suffix.lower() in _LOSSY, p.name))
        self._folder, self._files, self._of_images = folder, files, list(images)
        self._by_stem: dict[str, Path] = {}
        for path in files:
            self._by_stem.setdefault(path.stem, path)
        self._images = {path.stem for path in images}
        self._numbered: dict[str, list[Path]] = {}
        for stem, path in sorted(self._by_stem.items()):
            match = _NUMBERED.fullmatch(stem)
            if match and stem not in self._images:
                self._numbered.setdefault(match.group(1), []).append(path)

    def of(self, image: Path) -> Path | None:
        """The one mask of an image, None where there is none."""
        if image.stem in self._by_stem:
            return self._by_stem[image.stem]
        others = (image.name.split(".")[0], *(image.stem + ending for ending in ENDINGS))
        return next(
            (self._by_stem[s] for s in others if s in self._by_stem and s not in self._images), None
        )

    def all_of(self, image: Path) -> list[Path]:
        """The masks of an image, one for each object."""
        own = self.of(image)
        return [own] if own is not None else list(self._numbered.get(image.stem, []))

    def require_any(self, several: bool) -> None:
        """See that names of masks are like those of images at all.

        Args:
            several: whether files NAME_1, NAME_2 ... count.

        Raises:
            ValueError: there are images, and none of them has a mask.
        """
        images = self._of_images
        if not images or any(self.all_of(p) if several else self.of(p) for p in images):
            return
        stranger = f"and no image like {printable(self._files[0].name)}" if self._files else \
            "there is no picture in that folder"
        stem = printable(images[0].stem)
        each = f", or {stem}_1.png, {stem}_2.png ... for an object each" if several else ""
        raise ValueError(
            f"None of the {len(images)} images in {images[0].parent} has a mask in {self._folder}: "
            f"no mask is named like {printable(images[0].name)}, {stranger}. Expected are "
            f"{stem}.png, or {stem} with one of {', '.join(ENDINGS)} behind it{each}."
        )


def listed(names: Sequence[str]) -> str:
    """A few of the names, and how many there are besides."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(printable, names[:_SHOWN])) + more
