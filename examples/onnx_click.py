"""Segment objects with the files of `fdrn export`: numpy, onnxruntime and Pillow, nothing else.

    python onnx_click.py DIR IMAGE X,Y X,Y,- ...    # x is the column; minus: not on the object

IMAGE is a picture's file, or an array in a .npy file. meta.json says in words what is done here.
"""

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import onnxruntime

FORMAT = "fdrn_adapter.onnx/2"


def resize(maps, rows, cols):
    """Bilinear with aligned corners: (channels, h, w) -> (channels, rows, cols), float32."""
    weights = []
    for new, old in ((rows, maps.shape[1]), (cols, maps.shape[2])):
        at = np.linspace(0, old - 1, new)[:, None] - np.arange(old)
        weights.append(np.maximum(1 - np.abs(at), 0).astype(np.float32))
    return weights[0] @ maps @ weights[1].T


def resize_smoothly(maps, rows, cols):
    """Bilinear about the pixels' centres, averaging where it shrinks; shapes as for `resize`."""
    weights = []
    for new, old in ((rows, maps.shape[1]), (cols, maps.shape[2])):
        wide = max(1.0, old / new)
        at = (np.arange(new)[:, None] + 0.5) * (old / new) - 0.5 - np.arange(old)
        part = np.maximum(1 - np.abs(at) / wide, 0)
        weights.append((part / part.sum(1, keepdims=True)).astype(np.float32))
    return weights[0] @ maps @ weights[1].T


def as_rgb(image):
    """(rows, cols, 3) uint8 of a path, a Pillow image or an array: gray, RGB or RGBA."""
    if isinstance(image, (str, Path)):
        from PIL import Image

        image = Image.open(image)
    if hasattr(image, "getexif"):
        from PIL import ImageOps

        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # 10, 12, 14 or 16 bits, by its values
            image = np.asarray(image).astype(np.uint16)
            bits = next(b for b in (8, 10, 12, 14, 16) if image.max() < 2**b)
            image = (image >> (bits - 8)).astype(np.uint8)
        elif image.mode not in ("I", "F"):
            image = image.convert("RGB")
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise ValueError(f"An image is (H, W), (H, W, 3) or (H, W, 4), got {image.shape}.")
    image = image[..., :3] if image.shape[2] == 4 else image
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    elif image.dtype.kind == "f" and image.min() >= 0 and image.max() <= 1:
        image = np.round(image * 255).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ValueError(f"An image is uint8, or floats in [0, 1], without NaN; got {image.dtype}.")
    return np.broadcast_to(image, (*image.shape[:2], 3))


def read_meta(folder):
    """What meta.json says, once the files are seen to be those that it is about."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        sums = {name: part["sha256"] for name, part in meta["files"].items()}
        known = meta["format"] == FORMAT
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{folder / 'meta.json'} is damaged ({error!r}): export anew.") from error
    if not known:
        raise ValueError(f"{folder} is of another version ({meta['format']}): export anew.")
    for name, known in sums.items():
        path = folder / Path(name).name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != known:
            raise ValueError(f"{path} is not the file that meta.json is about: export anew.")
    return meta


class Clicker:
    """`set_image`, then `click`: the probability of the object, (rows, columns) float32."""

    def __init__(self, folder, **options):
        folder = Path(folder)
        self.meta = read_meta(folder)
        if "refine.onnx" in self.meta["files"]:
            raise ValueError(
                f"{folder} holds a FocalClick network, whose second stage (refine.onnx) this "
                "program does not run; use its checkpoint with engine='onnxruntime'."
            )
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(str(folder / name), **options)
            for name in ("encoder.onnx", "decoder.onnx")
        )
        self.threshold = self.meta["threshold"]

    def set_image(self, image):
        """Take an image, see `as_rgb`, and encode it."""
        image = as_rgb(image)
        self.image = image.transpose(2, 0, 1).astype(np.float32) / 255
        seen, longest = self.image, max(image.shape[:2])
        side = self.meta["encoder_side"] or min(longest, self.meta["encoder_max_side"])
        if side != longest:
            size = (max(1, round(n * side / longest)) for n in image.shape[:2])
            seen = resize_smoothly(self.image, *size)
        maps = self.encoder.run(None, {"image": seen[None]})
        self.fixed = dict(zip((o.name for o in self.encoder.get_outputs()), maps, strict=True))
        self.fixed["image_size"] = np.float32(image.shape[:2])
        self.fixed["input_size"] = np.float32(seen.shape[1:])
        self.start_object()

    def start_object(self):
        """Forget all clicks."""
        self.clicks, self.roi = [], None
        self.prob = np.zeros(self.image.shape[1:], np.float32)

    def click(self, x, y, positive=True):
        """Column and row in pixels of the image; fractions go to the nearest pixel."""
        rows, cols = self.prob.shape
        if not (0 <= x < cols and 0 <= y < rows):
            raise ValueError(f"The click x={x}, y={y} is outside the image, {cols} x {rows}.")
        row, col = min(math.floor(y + 0.5), rows - 1), min(math.floor(x + 0.5), cols - 1)
        self.clicks.append((row, col, bool(positive)))
        try:
            roi = self._look(self.roi, self.prob, self.prob)
            if self.meta["first_twice"] and len(self.clicks) == 1 and (
                roi[1] > self.meta["zoom"]["threshold"]
            ).any():
                roi = self._look(None, roi[1], self.prob)
        except BaseException:
            self.clicks.pop()
            raise
        self.roi, self.prob = roi
        self._honour_clicks()
        return self.prob.copy()

    def _look(self, roi, found, prev_mask):
        """The roi, and the probabilities that the decoder gives on it."""
        rmin, rmax, cmin, cmax = roi = self._next_roi(roi, found)
        crop, part = self.meta["crop"], np.s_[:, rmin : rmax + 1, cmin : cmax + 1]
        points = np.full((2, len(self.clicks), 3), -1, np.float32)
        taken = [0, 0]
        for order, (row, col, sign) in enumerate(self.clicks):
            place = (row - rmin) / (rmax - rmin + 1), (col - cmin) / (cmax - cmin + 1)
            points[int(not sign), taken[not sign]] = crop * place[0], crop * place[1], order
            taken[not sign] += 1
        feed = {**self.fixed, "roi": np.float32(roi), "points": points.reshape(1, -1, 3),
                "crop": resize(self.image[part], crop, crop)[None],
                "prev_mask": resize(prev_mask[None][part], crop, crop)[None]}
        feed = {i.name: feed[i.name] for i in self.decoder.get_inputs()}
        logits = self.decoder.run(["logits"], feed)[0][0].clip(-80, 80)
        prob = np.zeros_like(self.prob)
        prob[None][part] = resize(1 / (1 + np.exp(-logits)), rmax - rmin + 1, cmax - cmin + 1)
        return roi, prob

    def _next_roi(self, roi, found):
        """First and last row and column to look at: the object with a margin, or everything."""
        zoom, (rows, cols) = self.meta["zoom"], found.shape
        on = np.argwhere(found > zoom["threshold"])
        if not len(on):
            new = (0, rows - 1, 0, cols - 1)
        else:
            on = np.concatenate([on, *([c[:2]] for c in self.clicks if c[2])])
            new = ()
            for first, last, most in zip(on.min(0), on.max(0), (rows - 1, cols - 1), strict=True):
                middle = 0.5 * (first + last)
                half = 0.5 * max(zoom["expansion"] * (last - first + 1), zoom["min_side_px"])
                new += max(0, round(float(middle - half))), min(most, round(float(middle + half)))
        if roi is None or not all(
            roi[0] <= row < roi[1] and roi[2] <= col < roi[3] for row, col, on in self.clicks if on
        ):
            return new
        common = np.prod([max(0, min(roi[i + 1], new[i + 1]) - max(roi[i], new[i]) + 1)
                          / (max(roi[i + 1], new[i + 1]) - min(roi[i], new[i]) + 1)
                          for i in (0, 2)])
        return roi if common >= zoom["keep_iou"] else new

    def _honour_clicks(self):
        """Pixels around all clicks become as clicked, the latest last."""
        if not self.meta["honour_clicks_px"]:
            return
        rmin, rmax, cmin, cmax = self.roi
        longest = max(rmax - rmin + 1, cmax - cmin + 1)
        radius = max(1, round(self.meta["honour_clicks_px"] * longest / self.meta["crop"]))
        for row, col, sign in self.clicks:
            r, c = np.ogrid[: self.prob.shape[0], : self.prob.shape[1]]
            self.prob[(r - row) ** 2 + (c - col) ** 2 <= radius**2] = float(sign)


def main(folder, picture, *clicks):
    clicker = Clicker(folder)
    clicker.set_image(np.load(picture) if picture.endswith(".npy") else picture)
    for click in clicks:
        x, y, *minus = click.split(",")
        prob = clicker.click(float(x), float(y), positive=not minus)
        print(f"click {click}: {(prob > clicker.threshold).sum()} of {prob.size} pixels")
    np.save("mask.npy", clicker.prob > clicker.threshold)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
