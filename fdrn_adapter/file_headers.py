"""What the first bytes of a picture's file say of it, where decoders pass over it in silence."""

import struct
from dataclasses import dataclass

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_BIG_TIFF = {b"II+\0": "<", b"MM\0+": ">"}
_KINDS = {1: "uint", 2: "int", 3: "float"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 16: 8}  # bytes of a TIFF value by its type
_LETTERS = {1: "B", 2: "B", 3: "H", 4: "I", 16: "Q"}
_PALETTE, _CMYK = 3, 5  # photometric interpretations
_MOST_PAGES = 10_000


@dataclass(frozen=True)
class TiffHeader:
    """The first page of a TIFF file.

    Attributes:
        bands: samples of a pixel.
        bits: of a sample.
        kind: "uint", "int" or "float".
        alpha: whether the last band is one.
        palette: whether pixels are numbers of colours.
        cmyk: whether the bands are inks.
        pages: of the file at full size.
        colours: whether they are gray values, a palette's, RGB, inks or YCbCr.
    """

    bands: int
    bits: int
    kind: str
    alpha: bool
    palette: bool
    cmyk: bool
    pages: int
    colours: bool


def png_depth(data: bytes) -> tuple[int, int] | None:
    """Bits of a sample and colour type (0 gray, 2 RGB, 3 palette, 4 gray + alpha, 6 RGBA)."""
    if data[:8] != _PNG or len(data) < 26:
        return None
    return data[24], data[25]


def has_palette(data: bytes) -> bool:
    """Whether a PNG, GIF, BMP or TIFF file stores numbers of colours."""
    png = png_depth(data)
    if png is not None:
        return png[1] == 3
    if data[:4] == b"GIF8":
        return True
    if data[:2] == b"BM" and len(data) >= 30:
        return struct.unpack_from("<H", data, 28)[0] <= 8
    tiff = tiff_header(data)
    return tiff is not None and tiff.palette


def is_jpeg(data: bytes) -> bool:
    return data[:3] == b"\xff\xd8\xff"


def tiff_header(data: bytes) -> TiffHeader | None:
    """What a TIFF file holds, None for another or a damaged file."""
    try:
        return _tiff(data)
    except (struct.error, IndexError, KeyError, OverflowError):
        return None


def _tiff(data: bytes) -> TiffHeader | None:
    order = _TIFF.get(bytes(data[:4]))
    big = order is None
    order = order or _BIG_TIFF.get(bytes(data[:4]))
    if order is None:
        return None
    start = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    first, pages = None, 0
    seen: set[int] = set()
    while start and start not in seen and len(seen) < _MOST_PAGES:
        seen.add(start)
        tags, start = _directory(data, order, big, start)
        first = tags if first is None else first
        pages += not tags.get(254, [0])[0] & 1  # smaller versions of another page do not count
    if first is None:
        return None
    photometric = first.get(262, [1])[0]
    return TiffHeader(
        bands=first.get(277, [1])[0], bits=first.get(258, [1])[0],
        kind=_KINDS.get(first.get(339, [1])[0], "uint"), alpha=first.get(338, [0])[-1] in (1, 2),
        palette=photometric == _PALETTE, cmyk=photometric == _CMYK, pages=pages,
        colours=photometric in (0, 1, 2, _PALETTE, _CMYK, 6),
    )


def _directory(data: bytes, order: str, big: bool, at: int) -> tuple[dict[int, tuple], int]:
    """The whole numbers of a directory by tag, and where the next one is."""
    count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
    at += 8 if big else 2
    width, inline = (20, 8) if big else (12, 4)
    tags: dict[int, tuple] = {}
    for i in range(min(count, 4096)):
        entry = at + i * width
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        number = struct.unpack_from(order + ("Q" if big else "I"), data, entry + 4)[0]
        if kind not in _SIZES or not 0 < number <= 64:  # pixels' places are of no interest
            continue
        where = entry + (12 if big else 8)
        if number * _SIZES[kind] > inline:
            where = struct.unpack_from(order + ("Q" if big else "I"), data, where)[0]
        tags[tag] = struct.unpack_from(f"{order}{number}{_LETTERS[kind]}", data, where)
    following = at + count * width
    return tags, struct.unpack_from(order + ("Q" if big else "I"), data, following)[0]
