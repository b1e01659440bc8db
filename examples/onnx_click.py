"""Segment an object with files of `fdrn export`: numpy and onnxruntime, nothing else.

    python onnx_click.py DIR IMAGE X,Y X,Y,- ...       # x is the column; a minus: not on the object

IMAGE is .npy (rows, columns, 3; uint8 RGB), .ppm, or what Pillow reads where that is installed.
Prints one line per click and writes mask.npy. Copy `Clicker` into your own program.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def read(path):
    """(rows, columns, 3) uint8 RGB."""
    if path.endswith(".npy"):
        return np.load(path)
    if path.endswith(".ppm"):  # binary, 8 bits, without comments
        magic, cols, rows, _, pixels = Path(path).read_bytes().split(maxsplit=4)
        assert magic == b"P6", "only binary PPM"
        return np.frombuffer(pixels[-3 * int(rows) * int(cols):], np.uint8).reshape(
            int(rows), int(cols), 3)
    from PIL import Image

    return np.asarray(Image.open(path).convert("RGB"))


def resize(maps, rows, cols):
    """Bilinear with aligned corners: (channels, h, w) -> (channels, rows, cols), float32."""
    for axis, size in ((1, rows), (2, cols)):
        at = np.linspace(0, maps.shape[axis] - 1, size) if size > 1 else np.zeros(1)
        low = np.minimum(at.astype(int), max(0, maps.shape[axis] - 2))
        high = np.minimum(low + 1, maps.shape[axis] - 1)
        share = (at - low).astype(np.float32).reshape((-1, 1) if axis == 1 else (1, -1))
        maps = (1 - share) * maps.take(low, axis) + share * maps.take(high, axis)
    return maps


class Clicker:
    """One image; `click` returns the probability of the object, (rows, columns) float32."""

    def __init__(self, folder, image):
        self.meta = json.loads((Path(folder) / "meta.json").read_text())
        load = onnxruntime.InferenceSession
        encoder, self.decoder = (
            load(str(Path(folder) / f"{name}.onnx"), providers=["CPUExecutionProvider"])
            for name in ("encoder", "decoder")
        )
        self.image = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 255
        self.size = image.shape[:2]
        # Larger images than meta["encoder_max_side"] may be shrunk for the encoder: input_size.
        names = [output.name for output in encoder.get_outputs()]
        maps = encoder.run(None, {"image": self.image[None]})
        self.features = dict(zip(names, maps, strict=True))
        self.features["image_size"] = self.features["input_size"] = np.float32(self.size)
        self.clicks, self.prob = [], np.zeros(self.size, np.float32)

    def roi(self):
        """Where to look: the object so far with a margin, at least 200 pixels; or everything."""
        on = np.argwhere(self.prob > 0.5)
        if not len(on):
            return 0, self.size[0] - 1, 0, self.size[1] - 1
        on = np.concatenate([on, [c[:2] for c in self.clicks if c[2]] or on[:1]])
        sides = []
        for low, high, size in zip(on.min(0), on.max(0), self.size, strict=True):
            middle, half = (low + high) / 2, max(1.4 * (high - low + 1), 200) / 2
            sides += [max(0, int(round(middle - half))), min(size - 1, int(round(middle + half)))]
        return tuple(sides)

    def click(self, x, y, positive=True):
        self.clicks.append((y, x, positive))
        rmin, rmax, cmin, cmax = roi = self.roi()
        crop, rows, cols = self.meta["crop"], rmax - rmin + 1, cmax - cmin + 1
        points = np.full((2, len(self.clicks), 3), -1, np.float32)
        for i, (row, col, sign) in enumerate(self.clicks):
            points[int(not sign), i] = crop * (row - rmin) / rows, crop * (col - cmin) / cols, i
        part = np.s_[:, rmin : rmax + 1, cmin : cmax + 1]
        feed = {
            **self.features, "roi": np.float32(roi), "points": points.reshape(1, -1, 3),
            "crop": resize(self.image[part], crop, crop)[None],
            "prev_mask": resize(self.prob[None][part], crop, crop)[None],
        }
        feed = {i.name: feed[i.name] for i in self.decoder.get_inputs()}
        logits = self.decoder.run(["logits"], feed)[0][0]
        self.prob = np.zeros(self.size, np.float32)
        self.prob[None][part] = resize(1 / (1 + np.exp(-logits)), rows, cols)
        return self.prob


if __name__ == "__main__":
    clicker = Clicker(sys.argv[1], read(sys.argv[2]))
    for text in sys.argv[3:]:
        x, y, *sign = text.split(",")
        prob = clicker.click(int(x), int(y), sign != ["-"])
        print(f"click {text}: {int((prob > 0.5).sum())} pixels of {prob.size}")
    np.save("mask.npy", clicker.prob > 0.5)
