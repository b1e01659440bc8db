"""Masks as they are kept and sent: packed, on the part of the image that they fill."""

import base64
import zlib
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

Box = tuple[int, int, int, int]  # x, y, width, height

_NOTHING: Box = (0, 0, 0, 0)


class PackedMask:
    """A mask of an image, never changed: the box that it fills, and the bits in it.

    New ones are kept as they are worked with, eight pixels to a byte; once stored they are kept as
    files have them, compressed.

    Attributes:
        size: rows and columns of the image.
        box: x, y, width and height of what the mask fills; zeros for an empty mask.
        area: pixels of the mask.
    """

    def __init__(
        self, size: tuple[int, int], box: Box = _NOTHING, area: int = 0,
        rows: np.ndarray | None = None, bits: bytes = b"",
    ):
        """One of `rows` and `bits` says what is in the box, see there."""
        self.size, self.box, self.area = size, box, area
        self._rows, self._bits = rows, bits

    @classmethod
    def of(cls, mask: np.ndarray) -> "PackedMask":
        """Pack a mask (H, W) bool."""
        mask = np.ascontiguousarray(mask, bool)
        whole = np.packbits(mask, axis=1)
        box = _filled(whole)
        if not box[2]:
            return cls(mask.shape)
        x, y, width, height = box
        part = mask[y : y + height, x : x + width].view(np.uint8)
        rows = _shifted(whole[y : y + height], x, width)
        return cls(mask.shape, box, cv2.countNonZero(part), rows)

    @property
    def rows(self) -> np.ndarray:
        """The box, (height, ceil(width / 8)) uint8: each row packed, zeros behind its end."""
        return _rows_of(self)

    @property
    def bits(self) -> bytes:
        """The box as files have it: all its pixels in one row, eight to a byte, zlib."""
        rows = self._rows
        if rows is not None:
            flat = np.unpackbits(rows, axis=1, count=self.box[2])
            self._bits = zlib.compress(np.packbits(flat), 1)
            self._rows = None
        return self._bits

    @property
    def array(self) -> np.ndarray:
        """The mask (H, W) bool."""
        whole = np.zeros(self.size, bool)
        x, y, width, height = self.box
        if width:
            part = np.unpackbits(self.rows, axis=1, count=width)
            whole[y : y + height, x : x + width] = part.view(bool)
        return whole

    def inside(self, box: Box) -> np.ndarray:
        """The mask inside of a box that holds all of it, packed as `rows`."""
        whole = np.zeros((box[3], (box[2] + 7) // 8 + 1), np.uint8)
        if self.box[2]:
            rows, x, y = self.rows, self.box[0] - box[0], self.box[1] - box[1]
            place = whole[y : y + rows.shape[0]]
            start, shift = divmod(x, 8)
            place[:, start : start + rows.shape[1]] = rows >> shift
            if shift:
                place[:, start + 1 : start + 1 + rows.shape[1]] |= rows << (8 - shift)
        return whole[:, :-1]

    def for_json(self) -> dict[str, Any]:
        """The mask for a file; `from_json` reads it."""
        bits = base64.b64encode(self.bits).decode("ascii")
        return {"box": list(self.box), "bits": bits, "area": self.area}

    @classmethod
    def from_json(cls, stored: dict[str, Any], size: tuple[int, int]) -> "PackedMask":
        """The mask of a file.

        Raises:
            ValueError: it is damaged.
        """
        try:
            x, y, width, height = (int(n) for n in stored["box"])
            mask = cls(size, (x, y, width, height), int(stored["area"]),
                       bits=base64.b64decode(stored["bits"]))
            fits = 0 <= x <= x + width <= size[1] and 0 <= y <= y + height <= size[0]
            if not fits:
                raise ValueError(f"its box is {stored['box']}")
            area = int(_unpacked(mask.bits, width, height).sum()) if width else 0
            if area != mask.area:
                raise ValueError(f"it has not the {mask.area} pixels that are said")
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise ValueError(f"A mask in the file is damaged: {error}.") from error
        return mask


@lru_cache(4)  # the newest masks are asked for again and again
def _rows_of(mask: PackedMask) -> np.ndarray:
    rows = mask._rows
    return np.packbits(_unpacked(mask.bits, *mask.box[2:]), axis=1) if rows is None else rows


def _unpacked(bits: bytes, width: int, height: int) -> np.ndarray:
    expected = (width * height + 7) // 8
    packed = np.frombuffer(zlib.decompressobj().decompress(bits, expected + 1), np.uint8)
    if len(packed) != expected:  # also of a file that would unpack to more than the memory
        raise ValueError(f"it holds {len(packed)} bytes or more, not {expected}")
    return np.unpackbits(packed, count=width * height).view(bool).reshape(height, width)


def change(before: PackedMask | None, after: PackedMask | None) -> dict[str, Any] | None:
    """What of a mask is other than before, for the page: a box, and runs of what turned over.

    Args:
        before, after: None stands for an empty mask.

    Returns:
        None where nothing is; else "box", and "runs": lengths of runs in the box, row by row, zeros
        (pixels as before) first, as little-endian 32-bit numbers in base64.
    """
    if before is after:
        return None
    given = [mask for mask in (before, after) if mask is not None and mask.box[2]]
    if not given:
        return None
    whole = _around([mask.box for mask in given])
    nothing = PackedMask(given[0].size)
    new, old = ((mask or nothing).inside(whole) for mask in (after, before))
    differing = new ^ old
    x, y, width, height = _filled(differing)
    if not width:
        return None
    part = _shifted(differing[y : y + height], x, width)
    return {"box": [whole[0] + x, whole[1] + y, width, height], "runs": runs(part, width)}


def _filled(rows: np.ndarray) -> Box:
    """The box that packed rows fill, in pixels from their beginning."""
    lines = np.flatnonzero(rows.any(1))
    if not len(lines):
        return _NOTHING
    columns = np.flatnonzero(np.unpackbits(np.bitwise_or.reduce(rows, 0)))
    left, top = int(columns[0]), int(lines[0])
    return left, top, int(columns[-1]) - left + 1, int(lines[-1]) - top + 1


def _shifted(rows: np.ndarray, x: int, width: int) -> np.ndarray:
    """Columns from `x` on of packed rows, packed."""
    start, shift = divmod(x, 8)
    count = (width + 7) // 8
    part = rows[:, start : start + count] << shift
    if shift:
        rest = rows[:, start + 1 : start + 1 + count]
        part[:, : rest.shape[1]] |= rest >> (8 - shift)
    return part


def runs(rows: np.ndarray, width: int) -> str:
    """Lengths of the runs of packed rows of `width` pixels, see `change`."""
    rows = rows.copy()
    behind = -width % 8
    # Behind its end each row goes on as it ends, so that the next row's first pixel is compared
    # with it.
    last = rows[:, -1] >> behind & 1
    rows[:, -1] = rows[:, -1] >> behind << behind | last * ((1 << behind) - 1)
    flat = rows.ravel()
    before = flat >> 1
    before[1:] |= flat[:-1] << 7
    before[0] |= flat[0] & 128
    other = flat ^ before  # bits that are not what the one before is
    places = np.flatnonzero(other != 0)  # of bools it is faster
    which, bit = np.nonzero(np.unpackbits(other[places, None], axis=1))
    line, byte = np.divmod(places[which], rows.shape[1])
    edges = np.concatenate([[0], line * width + byte * 8 + bit, [len(rows) * width]])
    if flat[0] & 128:
        edges = np.concatenate([[0], edges])
    return base64.b64encode(np.diff(edges).astype("<u4").tobytes()).decode("ascii")


def mask_of_runs(text: str, box: Box, size: tuple[int, int]) -> np.ndarray:
    """The mask (H, W) bool of `runs` in a box; for tests and programs, as the page does it."""
    lengths = np.frombuffer(base64.b64decode(text), "<u4")
    x, y, width, height = box
    mask = np.zeros(size, bool)
    part = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
    mask[y : y + height, x : x + width] = part
    return mask


def _around(boxes: list[Box]) -> Box:
    left, top = min(b[0] for b in boxes), min(b[1] for b in boxes)
    right, bottom = max(b[0] + b[2] for b in boxes), max(b[1] + b[3] for b in boxes)
    return left, top, right - left, bottom - top
