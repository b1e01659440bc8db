"""Whatever people pass as an image, as an 8-bit RGB array: the one place that reads pictures."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from fdrn_adapter.file_headers import tiff_header

logger = logging.getLogger(__name__)

_FORMATS = "JPEG, PNG, BMP, TIFF, WebP ..."
_DEPTHS = (8, 10, 12, 14, 16)  # of sensors and scanners, bits


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB, upright by its EXIF orientation.

    Pictures of 16 bits are scaled by the number of bits that their values need: 10, 12, 14 or 16.

    Raises:
        ValueError: there is no such file, it is not a picture that OpenCV reads, or its bands or
            values have no known meaning as RGB.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no image file {path}.")
    # cv2.imread cannot open every path on Windows, and prints instead of raising.
    return decode_image(np.fromfile(path, np.uint8), str(path))


def decode_image(
    encoded: bytes | bytearray | memoryview | np.ndarray, name: str = "The image"
) -> np.ndarray:
    """A picture's file contents as (H, W, 3) uint8 RGB, see `read_image`.

    Args:
        encoded: bytes of a JPEG, PNG, BMP, TIFF or WebP file.
        name: of the picture, for messages.

    Raises:
        ValueError: as `read_image`.
    """
    import cv2

    data = np.frombuffer(encoded, np.uint8)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
    tiff = tiff_header(data.tobytes()) if data[:2].tobytes() in (b"II", b"MM") else None
    if tiff is not None:
        _check_bands(tiff, name)
        if tiff.bits >= 32:  # which OpenCV converts to no colours
            flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    try:
        stored = decoded(data, flags, name)
    except ValueError as error:
        if tiff is None:
            raise
        raise ValueError(
            f"{error} It is a TIFF file of {tiff.bands} bands of {tiff.bits} bits, or a damaged "
            "one. Read it with tifffile.imread, and pass an array, uint8 or in [0, 1]."
        ) from error
    image = _from_file(stored, name)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)


def decoded(data: np.ndarray, flags: int, name: str) -> np.ndarray:
    """`cv2.imdecode`, with an error that names the picture.

    Raises:
        ValueError: OpenCV cannot read it, or it is larger than OpenCV or the memory allow.
    """
    import cv2

    try:
        image = cv2.imdecode(data, flags) if data.size else None
    except (cv2.error, MemoryError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{name} cannot be read: OpenCV takes pictures of up to 2^30 pixels. Shrink it, or "
            f"pass parts of it as arrays. OpenCV says: {reason}"
        ) from error
    if image is None:
        raise ValueError(f"{name} is not an image that OpenCV can read ({_FORMATS}).")
    return image


def _check_bands(tiff: Any, name: str) -> None:
    """See that OpenCV will not take one band of several for the picture."""
    if not tiff.colours:
        raise ValueError(
            f"{name} is a TIFF file whose bands are neither gray nor RGB (such as CIE Lab or a "
            "camera's raw values). Convert it to RGB, for example by PIL.Image and ImageCms."
        )
    colours = tiff.bands - tiff.alpha
    if colours in (1, 3) or (tiff.cmyk and tiff.bands == 4):
        if tiff.pages > 1:
            logger.warning("%s has %d pages; the first is read", name, tiff.pages)
        return
    raise ValueError(
        f"{name} is a TIFF file of {tiff.bands} bands of {tiff.bits} bits, and which of them are "
        "red, green and blue is not known. Read it with tifffile.imread, choose three of them, "
        "and pass an array (H, W, 3), uint8 or in [0, 1]."
    )


def _from_file(image: np.ndarray, name: str) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return _by_bits(image, name)
    try:
        return _to_uint8(image)
    except ValueError as error:
        low, high = image.min(), image.max()
        raise ValueError(
            f"{name} holds values from {low:g} to {high:g} in {image.dtype}, which have no known "
            "range. Read it with tifffile.imread, and pass an array of uint8, or of floats in "
            "[0, 1], such as (a - black) / (white - black)."
        ) from error


def _by_bits(image: np.ndarray, name: str) -> np.ndarray:
    high = int(image.max())
    bits = next(bits for bits in _DEPTHS if high < 2**bits)
    if bits < 16:
        logger.info("%s: values up to %d, taken as %d bits", name, high, bits)
    return (image >> (bits - 8)).astype(np.uint8)


def as_rgb(image: Any) -> np.ndarray:
    """An (H, W, 3) uint8 RGB array of its own from an array, a path, a file's bytes or a PIL image.

    Accepts gray (H, W) or (H, W, 1), RGB and RGBA (alpha is dropped), as uint8, as floats in
    [0, 1] or as booleans; PIL images of any mode, turned upright by their EXIF orientation.

    Raises:
        ValueError: another shape, dtype or range, or no pixels.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return decode_image(image)
    if hasattr(image, "getexif") and hasattr(image, "convert"):
        image = _from_pil(image)
        if image.dtype == np.uint16:  # as the same picture by its path
            image = _by_bits(image, "The image")
    given = np.asarray(image)
    shape = given.shape
    image = given[..., None] if given.ndim == 2 else given
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"An image should be (H, W), (H, W, 3) or (H, W, 4), got {shape}. A tensor (3, H, W) "
            "becomes one by tensor.permute(1, 2, 0).numpy()."
        )
    if not image.size:
        raise ValueError(f"The image has no pixels: its shape is {shape}.")
    image = _to_uint8(image if image.shape[2] == 1 else image[..., :3])
    # A copy in any case: callers reuse their arrays. (`ascontiguousarray` would also leave the
    # negative strides of a mirrored image of one column, which torch refuses.)
    return np.array(np.broadcast_to(image, (*shape[:2], 3)), order="C", copy=True)


def _from_pil(image: Any) -> np.ndarray:
    """A PIL image upright, in RGB unless its values have another range than 0 to 255."""
    from PIL import ImageOps  # is there where such an image comes from, and else not needed

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    return np.asarray(image if image.mode in ("I", "F") else image.convert("RGB"))


def gray_range(scan: np.ndarray) -> tuple[float, float]:
    """The values of an MRI volume that become black and white, in training and in evaluation.

    Voxels outside the head are 0, and a few inside outshine all others: so these are the 0.5th and
    the 99.5th percentile of what is above 0.
    """
    inside = scan[scan > 0]
    if not inside.size:
        return 0.0, 1.0
    low, high = np.percentile(inside, (0.5, 99.5))
    return float(low), float(high)


def scan_to_gray(scan: np.ndarray, low: float, high: float) -> np.ndarray:
    """8-bit gray values of a scan or a slice of it; `low` and `high` from `gray_range`."""
    share = (scan.astype(np.float32) - low) / max(high - low, 1e-6)
    return (np.clip(share, 0, 1) * 255).round().astype(np.uint8)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    if image.dtype == bool:
        return image.astype(np.uint8) * 255
    if np.issubdtype(image.dtype, np.floating):
        low, high = float(np.min(image)), float(np.max(image))
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"A floating-point image should be in [0, 1], without NaN; values run from "
                f"{low:g} to {high:g}. Divide by its maximum, or convert it to uint8."
            )
        return np.round(image * 255).astype(np.uint8)
    raise ValueError(
        f"An image of dtype {image.dtype} has no known range: convert it to uint8 (0..255) or to "
        "floats in [0, 1]."
    )
