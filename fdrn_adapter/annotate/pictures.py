"""Photographs as browsers show them, with the pixels that the network sees."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from fdrn_adapter import file_headers
from fdrn_adapter.images import decode_image

THUMBNAIL_PX = 160
# What browsers turn upright and scale to 8 bits just as `images` does.
AS_THEY_ARE = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


@dataclass(frozen=True)
class Photograph:
    """A photograph that is worked on.

    Attributes:
        name: of its file.
        key: what the network knows it by.
        size: rows and columns.
        read: gives its pixels.
    """

    name: str
    key: str
    size: tuple[int, int]
    read: Callable[[], np.ndarray]




def for_browsers(path: Path) -> tuple[bytes, str]:
    """A picture's bytes, and what kind they are; those that browsers may not read become PNG.

    Raises:
        ValueError: it cannot be read.
    """
    content, suffix = path.read_bytes(), path.suffix.lower()
    depth = file_headers.png_depth(content)
    if suffix in AS_THEY_ARE and depth is None:
        return content, AS_THEY_ARE[suffix]
    if depth is not None and depth[0] == 8:
        return content, "image/png"
    rgb = decode_image(content, path.name)
    _, encoded = cv2.imencode(".png", rgb[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return encoded.tobytes(), "image/png"


def thumbnail(path: Path) -> bytes:
    """A picture as a small JPEG.

    Raises:
        ValueError: it cannot be read.
    """
    stat = path.stat()
    return _thumbnail(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(2000)
def _thumbnail(path: Path, *version: int) -> bytes:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    small = cv2.imdecode(data, cv2.IMREAD_REDUCED_COLOR_4) if len(data) > 500_000 else None
    if small is None:
        small = decode_image(data, path.name)[..., ::-1]
    scale = THUMBNAIL_PX / max(small.shape[:2])
    size = [max(1, round(n * scale)) for n in small.shape[1::-1]]
    small = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
