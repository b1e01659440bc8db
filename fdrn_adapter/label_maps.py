"""Masks and instance maps as people store them: the one place that reads and interprets them."""

import io
from pathlib import Path

import numpy as np

from fdrn_adapter import file_headers
from fdrn_adapter.images import decoded

IGNORE = -1  # the label that metrics, losses and click simulation leave out, as in the stock code
VOID = 255  # in 8-bit instance maps
# What `void` may be: 255 beside other labels is void unless it ends a series of evenly spaced
# values; is void in any case; is an object like any other.
AUTO, ALWAYS, NEVER = "auto", "always", "never"
GRABCUT_IGNORE = 128
_MOST_LABEL = 2**53
_MOST_ROUNDED = 85  # objects: 3 apart from each other
_SHOWN = 8  # values in a message


def read_label_map(path: str | Path, colours: bool = False) -> np.ndarray:
    """The pixels of a mask or instance map as they are stored, upright by their EXIF orientation.

    Args:
        path: file.
        colours: give a palette's colours instead of the numbers that are stored.

    Returns:
        (H, W) or (H, W, 3) BGR, in the file's own dtype.

    Raises:
        ValueError: there is no such file, it is no picture, or one of several pages or bands.
    """
    import cv2

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"There is no label map {path}.")
    data = np.fromfile(path, np.uint8)
    head = data.tobytes()
    _check_layers(head, path)
    if not colours and file_headers.has_palette(head):
        numbers = _palette_numbers(head, path)
        if numbers is not None:
            return numbers
    stored = decoded(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH, str(path))
    png = file_headers.png_depth(head)
    if png is not None and png[1] == 0 and png[0] in (2, 4):
        stored = stored // (255 // (2 ** png[0] - 1))  # OpenCV spreads them over 0 to 255
    return stored


def _check_layers(head: bytes, path: Path) -> None:
    """See that OpenCV will not take one layer of several for the map."""
    tiff = file_headers.tiff_header(head)
    if tiff is not None and (tiff.pages > 1 or tiff.bands - tiff.alpha not in (1, 3)):
        raise ValueError(
            f"{path} is a TIFF file of {tiff.pages} pages of {tiff.bands} bands; a label map has "
            "one page, of one band or of red, green and blue. Read it with tifffile.imread, and "
            "store the layers as files NAME_1, NAME_2 ... of one object each."
        )


def _palette_numbers(data: bytes, path: Path) -> np.ndarray | None:
    """The numbers stored in a palette file; None where the palette's colours are what is meant.

    That is so where it is gray (an optimised gray picture), and where black, which is background,
    is another number than 0 (an optimised picture in colours).
    """
    from PIL import Image, ImageOps  # torchvision needs it, and OpenCV reads colours only

    try:
        # Not by its path: Pillow maps such TIFF files into memory, and garbles those on their side.
        with Image.open(io.BytesIO(data)) as image:
            if image.mode != "P":
                return None
            palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            numbers = np.asarray(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    used = np.flatnonzero(np.bincount(numbers.ravel(), minlength=256))
    used = used[used < len(palette)]
    gray = (palette[used] == palette[used][:, :1]).all()
    black = (palette[used] == 0).all(axis=1)
    moved = black[used > 0].any() and palette[0].any()
    return None if gray or moved else numbers


# -- masks of one object -----------------------------------------------------------------------


def one_object(stored: np.ndarray) -> np.ndarray:
    """(H, W) int32: 1 where a stored mask of one object is not 0, in whatever colour."""
    return (one_channel(stored) > 0).astype(np.int32)


def one_channel(stored: np.ndarray) -> np.ndarray:
    """(H, W): the largest of a mask's colours."""
    return stored.reshape(*stored.shape[:2], -1)[..., :3].max(axis=2)


def trimap(stored: np.ndarray, soft: bool = False) -> np.ndarray:
    """(H, W) int32: 1 the object, 0 the rest, IGNORE what does not count.

    GrabCut's values: above 128 the object, 128 ignored, 1 the object too (stock code).

    Args:
        stored: from `read_label_map`.
        soft: masks may come from lossy formats: 1 beside values above 128 is a shade of the border.
    """
    mask = one_channel(stored)
    labels = np.zeros(mask.shape, np.int32)
    labels[mask == GRABCUT_IGNORE] = IGNORE
    labels[mask > GRABCUT_IGNORE] = 1
    if not (soft and (labels == 1).any()):
        labels[mask == 1] = 1
    return labels


def why_no_object(stored: np.ndarray) -> str:
    """What is wrong with a mask in which `trimap` finds no object, or several; empty if nothing."""
    mask = one_channel(stored)
    values = np.unique(mask)
    between = values[(values > 1) & (values < GRABCUT_IGNORE)]
    numbered = values[(values > 0) & (values < VOID)]
    if values[-1] == VOID and numbered.size and np.array_equal(
        numbered, np.arange(1, len(numbered) + 1)
    ):
        return (
            f"the mask's values are {_listed(values)}: that is a map of numbered objects with a "
            "void border, and belongs into a folder instances/"
        )
    if values[-1] > GRABCUT_IGNORE or (1 in values and not between.size):
        return ""
    if values[-1] == 0:
        return "the mask is empty: all its values are 0"
    return (
        f"the mask's values are {_listed(values)}; expected are 0 background, above "
        f"{GRABCUT_IGNORE} (or 1 alone) the object, {GRABCUT_IGNORE} ignored. A map of several "
        "objects belongs into a folder instances/"
    )


# -- instance maps -----------------------------------------------------------------------------


def instance_labels(stored: np.ndarray, void: str = AUTO) -> np.ndarray:
    """(H, W) int64 labels of a stored instance map: 0 background, IGNORE where void.

    One channel: the values; what 255 in an 8-bit map is, `void` says. Colours: each colour but
    black is an instance, labelled 65536 B + 256 G + R, or by its gray value where all are gray.

    Args:
        stored: from `read_label_map`.
        void: AUTO, ALWAYS or NEVER.

    Raises:
        ValueError: values that are no labels: fractions, or negative ones other than -1.
    """
    if stored.ndim == 3 and stored.shape[2] >= 3:
        b, g, r = (_whole(stored[..., i]) for i in range(3))
        if (b == g).all() and (g == r).all():
            return _voided(b, stored.dtype, void)
        return b * 65536 + g * 256 + r
    stored = stored[..., 0] if stored.ndim == 3 else stored
    return _voided(_whole(stored), stored.dtype, void)


def _whole(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8 or values.dtype == np.uint16:
        return values.astype(np.int64)
    low, high = values.min(), values.max()
    if not (low >= IGNORE and high <= _MOST_LABEL) or (values != np.floor(values)).any():
        raise ValueError(
            f"an instance map holds whole numbers: 0 background, 1, 2 ... objects, -1 void; its "
            f"values run from {low:g} to {high:g} in {values.dtype}"
        )
    return values.astype(np.int64)


def _voided(labels: np.ndarray, dtype: np.dtype, void: str) -> np.ndarray:
    if dtype == np.uint8 and void != NEVER:
        values = np.bincount(labels.ravel(), minlength=VOID + 1).nonzero()[0]
        if values[-1] == VOID and (void == ALWAYS or _is_void(values[values > 0])):
            labels[labels == VOID] = IGNORE
    return labels


def _is_void(values: np.ndarray) -> bool:
    """Whether 255, the last of a map's labels, is its void.

    RITM's demo saves its objects spread over 0 to 255: 85, 170, 255 are three. So do others, and
    round: 63, 127, 191, 255 or 64, 128, 191, 255 are four. Many rounded ones look like numbers.
    """
    count = len(values)
    if count < 3:
        return count == 2
    off = np.abs(values * count - VOID * np.arange(1, count + 1))  # in parts of 1 / count
    return not (off < (count if count <= _MOST_ROUNDED else 1)).all()


def what_255_is(stored: np.ndarray) -> str:
    """What AUTO takes the value 255 of a map with other labels for, for a message; "" without."""
    if stored.dtype != np.uint8 or not (stored == VOID).any():
        return ""
    values = np.unique(instance_labels(stored, NEVER))
    values = values[values > 0]
    if values[-1] != VOID or len(values) < 2:
        return ""
    return "void, which does not count" if _is_void(values) else \
        "an object, as the last of evenly spaced values"


def is_lossy(path: str | Path) -> bool:
    """Whether a map's file is a JPEG, which keeps no numbers."""
    with Path(path).open("rb") as file:
        return file_headers.is_jpeg(file.read(3))


def why_no_labels(labels: np.ndarray, lossy: bool = False) -> str:
    """Why labels cannot be those of an instance map, empty when they can.

    A map that went through a lossy format, or that was resized with soft edges, has as many values
    as there are shades on its borders, and they make lines, nowhere three pixels wide.

    Args:
        labels: from `instance_labels`.
        lossy: the format is known to be; one such label is enough then.
    """
    import cv2

    count, thin = 0, 0
    values = np.unique(labels)
    values = values[values > 0]
    count = len(values)
    if count > 3 or lossy:
        layer = np.searchsorted(values, labels).astype(np.float32)
        layer[labels <= 0] = -1
        window = np.ones((3, 3), np.uint8)
        inside = cv2.erode(layer, window) == cv2.dilate(layer, window)
        thin = count - len(np.setdiff1d(np.unique(layer[inside]), [-1]))
    if (thin >= 3 and 2 * thin > count) or (lossy and thin):
        return (
            f"the instance map has {count} labels, {thin} of them nowhere 3 pixels wide: was it "
            "stored in a lossy format (JPEG), or resized with soft edges? Store it as PNG, resized "
            "by nearest neighbour; a mask of one object belongs into a folder masks/"
        )
    return ""


def _listed(values: np.ndarray) -> str:
    more = f" ... ({len(values)} in all)" if len(values) > _SHOWN else ""
    return ", ".join(f"{v:g}" for v in values[:_SHOWN].tolist()) + more
