"""A picture and an object on it, for whatever is timed."""

import numpy as np


def picture(size: tuple[int, int]) -> np.ndarray:
    """A bright ellipse on a textured ground, (H, W, 3) uint8; the same every time."""
    rows, cols = size
    rng = np.random.default_rng(0)
    y, x = np.arange(rows)[:, None] / rows - 0.48, np.arange(cols)[None] / cols - 0.42
    image = 60 + 30 * np.sin(20 * x + 9 * y)[..., None] + rng.normal(0, 12, (rows, cols, 3))
    return np.clip(image + 110 * ellipse(size)[..., None], 0, 255).astype(np.uint8)


def ellipse(size: tuple[int, int], moved: float = 0.0) -> np.ndarray:
    """The object of `picture`, (H, W) bool, moved to the right by a share of the image."""
    rows, cols = size
    y, x = np.arange(rows)[:, None] / rows - 0.48, np.arange(cols)[None] / cols - 0.42
    return (y / 0.3) ** 2 + ((x - moved) / 0.22) ** 2 < 1
