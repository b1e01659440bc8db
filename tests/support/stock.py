"""Stock predictors and click sequences for the tests."""

import importlib
import threading

import numpy as np
import torch
from torch.nn import functional as F

import fdrn_adapter
from support.networks import as_array, build_host, make_object, teach

# (row, col, positive) on `make_object()`: on the ellipse, off it, at a corner of the picture.
# The modules of SFI and TFI as narrow as they were before the paper's widths became the default:
# random ones of 256 channels drown what a taught host says.
NARROW = {
    "value_channels": None, "shortcut_kernel": 1, "affinity": "literal", "norms": True,
}

CLICKS = [
    (72, 96, True), (80, 100, True), (100, 200, False), (65, 90, True), (20, 30, False),
    (75, 85, True), (150, 10, False), (70, 105, True), (40, 96, False), (85, 96, True),
]


def taught_host(size: str = "18s", crop: int = 96, package: str = "ritm_annotation"):
    """A host whose masks follow `make_object()`, so that the stock zoom-in has an object."""
    host = build_host(size, package)
    image, mask = make_object()
    small = F.interpolate(image, (crop, crop), mode="bilinear", align_corners=True)
    teach(host, small, F.interpolate(mask[None, None].float(), (crop, crop))[0, 0] > 0.5)
    return host


def picture() -> np.ndarray:
    return as_array(make_object()[0])


def zoom_in(package: str, crop: int = 96, **kwargs):
    transforms = importlib.import_module(f"{package}.inference.transforms")
    options = {"skip_clicks": -1, "target_size": (crop, crop), "min_crop_size": 30}
    return transforms.ZoomIn(**{**options, **kwargs})


def base_predictor(package: str = "ritm_annotation"):
    return importlib.import_module(f"{package}.inference.predictors.base").BasePredictor


@torch.no_grad()
def run_clicks(predictor, image: np.ndarray, clicks=CLICKS, package: str = "ritm_annotation"):
    """Probabilities (n, H, W) and rois after each click through a stock predictor."""
    clicker_module = importlib.import_module(f"{package}.inference.clicker")
    predictor.set_input_image(image)
    clicker = clicker_module.Clicker()
    probs, rois = [], []
    for row, col, positive in clicks:
        clicker.add_click(clicker_module.Click(is_positive=positive, coords=(row, col)))
        probs.append(predictor.get_prediction(clicker))
        rois.append(getattr(predictor.zoom_in, "_object_roi", None))
    return np.stack(probs), rois


def record_logits(net) -> list[torch.Tensor]:
    """The list that every forward pass of `net` appends its logits to."""
    seen: list[torch.Tensor] = []
    net.register_forward_hook(lambda m, a, out: seen.append(out["instances"].detach().clone()))
    return seen


def check_threads_equal_serial(model, num_images: int, clicks) -> None:
    """One session a thread, all on one model, each with its own image: as one after the other."""
    images = [np.roll(picture(), 20 * i, axis=1) for i in range(num_images)]

    def run(image, out):
        session = fdrn_adapter.InteractiveSession(model, crop=64)
        session.set_image(image)
        for row, col, positive in clicks:
            session.add_click(col, row, positive)
            out.append(session.prob)
        session.undo()
        out.append(session.prob)

    serial, threaded = [[] for _ in images], [[] for _ in images]
    for image, out in zip(images, serial, strict=True):
        run(image, out)
    threads = [threading.Thread(target=run, args=a) for a in zip(images, threaded, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.abs(serial[0][-1] - serial[1][-1]).max() > 1e-3
    for a, b in zip(serial, threaded, strict=True):
        assert len(b) == len(clicks) + 1
        assert all(np.abs(x - y).max() < 1e-5 for x, y in zip(a, b, strict=True))
