"""Masks as polygons, along the edges of pixels, and back.

Corners are in the coordinates of pixel edges: a mask of the pixel in column 3, row 5 has its
corners at x 3 and 4, y 5 and 6. Without simplification a polygon is the mask, to the pixel.
"""

import numpy as np

Ring = np.ndarray  # (N, 2) float64: x, y of corners, not closed


def outlines(mask: np.ndarray, tolerance_px: float = 0.0) -> list[tuple[Ring, list[Ring]]]:
    """The parts of a mask, each with its border and those of its holes.

    Args:
        mask: (H, W) bool.
        tolerance_px: how far simplified borders may lie from the true ones; 0 keeps all corners.

    Returns:
        (border, holes) of each part; parts that a tolerance would leave without area are left out.
    """
    # Every pixel as 2 x 2, so that OpenCV's contours, which run through the middle of border
    # pixels, tell on which side of a pixel they are.
    doubled = np.ascontiguousarray(mask, np.uint8).repeat(2, 0).repeat(2, 1)
    import cv2

    found, tree = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not found:
        return []
    rings = [_corners(ring, tolerance_px) for ring in found]
    parents = tree[0][:, 3]
    return [
        (rings[i], [rings[j] for j in np.flatnonzero(parents == i) if len(rings[j]) > 2])
        for i in np.flatnonzero(parents < 0) if len(rings[i]) > 2
    ]


def _corners(contour: np.ndarray, tolerance_px: float) -> Ring:
    points = (contour[:, 0] + 1) // 2
    if tolerance_px > 0:
        import cv2

        return cv2.approxPolyDP(points.astype(np.int32)[:, None], tolerance_px, True)[:, 0] * 1.0
    points = points[(points != np.roll(points, 1, axis=0)).any(1)]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]].astype(float)


def joined_rings(border: Ring, holes: list[Ring]) -> Ring:
    """A border and its holes as one ring, for formats that know no holes.

    A cut without width leads from the nearest corner of what is joined already to each hole and
    back; by the even-odd rule, and by pycocotools, the area is that of the border less its holes.
    """
    ring = border
    for hole in sorted(holes, key=lambda h: h[:, 0].min()):
        j = int(np.argmin(hole[:, 0]))
        i = int(np.argmin(((ring - hole[j]) ** 2).sum(1)))
        around = np.roll(hole, -j, axis=0)
        ring = np.concatenate([ring[: i + 1], around, around[:1], ring[i:]])
    return ring


def polygons(mask: np.ndarray, tolerance_px: float = 0.0) -> list[Ring]:
    """The parts of a mask as one ring each, holes joined to borders; see `outlines`."""
    return [joined_rings(*part) for part in outlines(mask, tolerance_px)]


def filled(rings: list[Ring], size: tuple[int, int]) -> np.ndarray:
    """The pixels whose middle lies inside of rings, by the even-odd rule: (H, W) bool.

    Args:
        rings: corners in the coordinates of pixel edges.
        size: rows and columns.
    """
    crossings = np.zeros((size[0], size[1] + 1), np.int64)
    for ring in rings:
        for (x1, y1), (x2, y2) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            low, high = min(y1, y2), max(y1, y2)
            rows = np.arange(max(0, int(np.ceil(low - 0.5))), min(size[0], np.ceil(high - 0.5)))
            if rows.size:
                x = x1 + (rows + 0.5 - y1) / (y2 - y1) * (x2 - x1)
                columns = np.clip(np.ceil(x - 0.5), 0, size[1]).astype(int)
                np.add.at(crossings, (rows.astype(int), columns), 1)
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1
