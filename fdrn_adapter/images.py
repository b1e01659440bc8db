"""Whatever people pass as an image, as an 8-bit RGB array."""

from pathlib import Path

import numpy as np


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture as (H, W, 3) uint8 RGB, upright by its EXIF orientation.

    Raises:
        ValueError: there is no such file, or it is not a picture that OpenCV reads.
    """
    import cv2

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no image file {path}.")
    # cv2.imread cannot open every path on Windows, and prints instead of raising.
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size \
        else None
    if image is None:
        raise ValueError(
            f"{path} is not an image that OpenCV can read (JPEG, PNG, BMP, TIFF, WebP ...)."
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def as_rgb(image: np.ndarray | str | Path) -> np.ndarray:
    """An (H, W, 3) uint8 RGB array from an array or a path.

    Accepts gray (H, W) or (H, W, 1), RGB and RGBA (alpha is dropped), as uint8, as floats in
    [0, 1] or as booleans.

    Raises:
        ValueError: another shape, dtype or range, or no pixels.
    """
    if isinstance(image, str | Path):
        return read_image(image)
    image = np.asarray(image)
    shape = image.shape
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"An image should be (H, W), (H, W, 3) or (H, W, 4), got {shape}. A tensor (3, H, W) "
            "becomes one by tensor.permute(1, 2, 0).numpy()."
        )
    if not image.size:
        raise ValueError(f"The image has no pixels: its shape is {shape}.")
    image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]
    return np.ascontiguousarray(_to_uint8(image))


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
