"""Masks as they are kept and sent: packed, on the part of the image that they fill."""

import base64
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

Box = tuple[int, int, int, int]  # x, y, width, height

_NOTHING: Box = (0, 0, 0, 0)


@dataclass(frozen=True)
class PackedMask:
    """A mask of an image, never changed: the box that it fills, and the bits in it, compressed.

    Attributes:
        size: rows and columns of the image.
        box: x, y, width and height of what the mask fills; zeros for an empty mask.
        bits: of the box, row by row, eight to a byte, compressed by zlib.
        area: pixels of the mask.
    """

    size: tuple[int, int]
    box: Box = _NOTHING
    bits: bytes = b""
    area: int = 0

    @classmethod
    def of(cls, mask: np.ndarray) -> "PackedMask":
        """Pack a mask (H, W) bool."""
        mask = np.ascontiguousarray(mask, bool)
        box = tuple(int(n) for n in cv2.boundingRect(mask.view(np.uint8)))
        if not box[2]:
            return cls(mask.shape)
        x, y, width, height = box
        packed = np.packbits(mask[y : y + height, x : x + width])
        return cls(mask.shape, box, zlib.compress(packed, 1), cv2.countNonZero(mask.view(np.uint8)))

    @property
    def part(self) -> np.ndarray:
        """The mask inside of its box, (height, width) bool, not to be written to."""
        _, _, width, height = self.box
        return _unpacked(self.bits, width, height) if width else np.zeros((0, 0), bool)

    @property
    def array(self) -> np.ndarray:
        """The mask (H, W) bool."""
        return self.inside((0, 0, self.size[1], self.size[0]))

    def inside(self, box: Box) -> np.ndarray:
        """The mask inside of a box that holds all of it, (height, width) bool."""
        whole = np.zeros((box[3], box[2]), bool)
        x, y = self.box[0] - box[0], self.box[1] - box[1]
        if self.box[2]:
            whole[y : y + self.box[3], x : x + self.box[2]] = self.part
        return whole

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
            mask = cls(size, (x, y, width, height), base64.b64decode(stored["bits"]),
                       int(stored["area"]))
            fits = 0 <= x <= x + width <= size[1] and 0 <= y <= y + height <= size[0]
            if not fits:
                raise ValueError(f"its box is {stored['box']}")
            if int(mask.part.sum()) != mask.area:
                raise ValueError(f"it has not the {mask.area} pixels that are said")
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise ValueError(f"A mask in the file is damaged: {error}.") from error
        return mask


@lru_cache(4)  # the newest masks are asked for again and again
def _unpacked(bits: bytes, width: int, height: int) -> np.ndarray:
    expected = (width * height + 7) // 8
    packed = np.frombuffer(zlib.decompressobj().decompress(bits, expected + 1), np.uint8)
    if len(packed) != expected:  # also of a file that would unpack to more than the memory
        raise ValueError(f"it holds {len(packed)} bytes or more, not {expected}")
    part = np.unpackbits(packed, count=width * height).view(bool).reshape(height, width)
    part.flags.writeable = False
    return part


def change(before: PackedMask | None, after: PackedMask | None) -> dict[str, Any] | None:
    """What of a mask is other than before, for the page: a box and the new runs in it.

    Args:
        before, after: None stands for an empty mask.

    Returns:
        None where nothing is; else "box", and "runs": lengths of runs in the box, row by row, zeros
        first, as little-endian 32-bit numbers in base64.
    """
    if before is after or (before and after and (before.box, before.bits) == (
            after.box, after.bits)):
        return None
    given = [mask for mask in (before, after) if mask is not None and mask.box[2]]
    if not given:
        return None
    whole = _around([mask.box for mask in given])
    new = after.inside(whole) if after else np.zeros((whole[3], whole[2]), bool)
    old = before.inside(whole) if before else np.zeros_like(new)
    differing = cv2.boundingRect((new ^ old).view(np.uint8))
    if not differing[2]:
        return None
    x, y, width, height = differing
    part = new[y : y + height, x : x + width]
    return {"box": [whole[0] + x, whole[1] + y, width, height], "runs": runs(part)}


def runs(part: np.ndarray) -> str:
    """Lengths of the runs of a mask (H, W) bool, see `change`."""
    flat = np.ascontiguousarray(part).ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate([[0], edges, [flat.size]])
    if flat.size and flat[0]:
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
