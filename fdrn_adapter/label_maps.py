"""Masks and instance maps as people store them: values, palettes, colours, void."""

import numpy as np

IGNORE = -1  # the label that metrics, losses and click simulation leave out, as in the stock code
VOID = 255  # in 8-bit instance maps


def one_object(stored: np.ndarray) -> np.ndarray:
    """(H, W) int32: 1 where a stored mask of one object is not 0, in whatever colour."""
    return (stored.reshape(*stored.shape[:2], -1)[..., :3].max(axis=2) > 0).astype(np.int32)


def instance_labels(stored: np.ndarray) -> np.ndarray:
    """(H, W) int64 labels of a stored instance map: 0 background, IGNORE where void.

    One channel: the values; 255 in an 8-bit map with other labels is ignored. Colours, also of a
    palette: each colour but black is an instance, labelled 65536 B + 256 G + R, or by its gray
    value where all are gray.

    Args:
        stored: as OpenCV reads it unchanged, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
    """
    if stored.ndim == 3 and stored.shape[2] >= 3:
        b, g, r = (stored[..., i].astype(np.int64) for i in range(3))
        if (b == g).all() and (g == r).all():
            return _voided(b, stored.dtype)
        return b * 65536 + g * 256 + r
    stored = stored[..., 0] if stored.ndim == 3 else stored
    return _voided(stored.astype(np.int64), stored.dtype)


def _voided(labels: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype == np.uint8:
        values = np.bincount(labels.ravel(), minlength=VOID + 1).nonzero()[0]
        if values[-1] == VOID and len(values[values > 0]) > 1:
            labels[labels == VOID] = IGNORE
    return labels
