"""Segment an object with the files of `fdrn export`: numpy and onnxruntime, nothing else.

    python onnx_click.py DIR IMAGE.npy X,Y X,Y,- ...    # x is the column; minus: not on the object
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


def resize(maps, rows, cols):
    """Bilinear with aligned corners: (channels, h, w) -> (channels, rows, cols), float32."""
    weights = []
    for new, old in ((rows, maps.shape[1]), (cols, maps.shape[2])):
        at = np.linspace(0, old - 1, new)[:, None] - np.arange(old)
        weights.append(np.maximum(1 - np.abs(at), 0).astype(np.float32))
    return weights[0] @ maps @ weights[1].T


class Clicker:
    """`set_image`, then `click`: the probability of the object, (rows, columns) float32."""

    def __init__(self, folder, **options):
        self.meta = json.loads((Path(folder) / "meta.json").read_text())
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(str(Path(folder) / name), **options)
            for name in ("encoder.onnx", "decoder.onnx")
        )

    def set_image(self, image, small=None):
        """(rows, cols, 3) uint8 RGB; `small`: shrunk to meta["encoder_max_side"] if larger."""
        seen = image if small is None else small
        self.image = image.transpose(2, 0, 1).astype(np.float32) / 255
        maps = self.encoder.run(None, {"image": seen.transpose(2, 0, 1)[None].astype("f4") / 255})
        self.fixed = dict(zip((o.name for o in self.encoder.get_outputs()), maps, strict=True))
        self.fixed["image_size"] = np.float32(image.shape[:2])
        self.fixed["input_size"] = np.float32(seen.shape[:2])
        self.clicks, self.prob = [], np.zeros(image.shape[:2], np.float32)

    def roi(self):
        """Where to look: the object so far with a margin, at least 200 pixels; or everything."""
        on, ends = np.argwhere(self.prob > 0.5), np.array(self.prob.shape) - 1
        if not len(on):
            return 0, ends[0], 0, ends[1]
        on = np.concatenate([on, [c[:2] for c in self.clicks if c[2]] or on[:1]])
        middle, half = (on.min(0) + on.max(0)) / 2, np.maximum(0.7 * (np.ptp(on, axis=0) + 1), 100)
        first, last = np.maximum(0, middle - half).round(), np.minimum(ends, middle + half).round()
        return int(first[0]), int(last[0]), int(first[1]), int(last[1])

    def click(self, x, y, positive=True):
        self.clicks.append((y, x, positive))
        rmin, rmax, cmin, cmax = roi = self.roi()
        crop, part = self.meta["crop"], np.s_[:, rmin : rmax + 1, cmin : cmax + 1]
        points = np.full((2, len(self.clicks), 3), -1, np.float32)
        for i, (row, col, sign) in enumerate(self.clicks):
            place = (row - rmin) / (rmax - rmin + 1), (col - cmin) / (cmax - cmin + 1)
            points[int(not sign), i] = crop * place[0], crop * place[1], i
        feed = {**self.fixed, "roi": np.float32(roi), "points": points.reshape(1, -1, 3),
                "crop": resize(self.image[part], crop, crop)[None],
                "prev_mask": resize(self.prob[None][part], crop, crop)[None]}
        feed = {i.name: feed[i.name] for i in self.decoder.get_inputs()}
        prob = 1 / (1 + np.exp(-self.decoder.run(["logits"], feed)[0][0]))
        self.prob = np.zeros_like(self.prob)
        self.prob[None][part] = resize(prob, rmax - rmin + 1, cmax - cmin + 1)
        return self.prob


if __name__ == "__main__":
    clicker = Clicker(sys.argv[1])
    clicker.set_image(np.load(sys.argv[2]))
    for x, y, *minus in (text.split(",") for text in sys.argv[3:]):
        prob = clicker.click(int(x), int(y), positive=not minus)
        print(f"click {','.join([x, y, *minus])}: {(prob > 0.5).sum()} of {prob.size} pixels")
    np.save("mask.npy", clicker.prob > 0.5)
