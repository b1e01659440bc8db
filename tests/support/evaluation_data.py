"""Tiny data sets in the layouts of the real ones, and the benchmark run on them."""

import argparse
from pathlib import Path

import cv2
import numpy as np

import fdrn_adapter
from fdrn_adapter.commands.benchmark import add_arguments, measured
from fdrn_adapter.evaluation import plan
from fdrn_adapter.evaluation.settings import Settings  # noqa: F401
from support.networks import as_array, make_object
from support.stock import taught_host


def save(path: Path, array: np.ndarray) -> None:
    """Write an image; RGB where it has three channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if array.ndim == 3:
        array = array[..., ::-1]
    assert cv2.imwrite(str(path), array)


def pictures(number: int, rows: int = 120, cols: int = 160):
    """Pictures (H, W, 3) with one bright ellipse each, and its masks (H, W) bool."""
    for i in range(number):
        image, mask = make_object(rows, cols, seed=i)
        yield np.roll(as_array(image), 9 * i, axis=1), np.roll(mask.numpy(), 9 * i, axis=1)


def trimap_of(mask: np.ndarray) -> np.ndarray:
    """0, 255, and 128 on a border three pixels wide."""
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    return np.where(mask, 255, np.where(grown, 128, 0)).astype(np.uint8)


def grabcut(root: Path, number: int = 2, **size: int) -> Path:
    """A GrabCut of that many samples."""
    for i, (image, mask) in enumerate(pictures(number, **size)):
        save(root / "data_GT" / f"p{i}.png", image)
        save(root / "boundary_GT" / f"p{i}.png", trimap_of(mask))
    return root


def checkpoints(root: Path) -> Path:
    """stock.pth and its identity-wrapped fdrn.pth, both following the pictures."""
    host = taught_host("tiny", crop=64)
    fdrn_adapter.save(host, root / "stock.pth")
    fdrn_adapter.save(fdrn_adapter.wrap(host, encoder="hrnet18s"), root / "fdrn.pth")
    return root


def two_objects(rows: int = 120, cols: int = 160) -> np.ndarray:
    """An instance map with the labels 1 and 4."""
    labels = np.zeros((rows, cols), np.uint8)
    cv2.ellipse(labels, (50, 50), (22, 18), 0, 0, 360, 1, -1)
    cv2.ellipse(labels, (115, 75), (20, 25), 0, 0, 360, 4, -1)
    return labels


def arguments(**given) -> argparse.Namespace:
    """Parsed arguments of `fdrn benchmark`."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    line = []
    for name, value in given.items():
        line.append("--" + name.replace("_", "-"))
        line += [] if value is True else [str(value)]
    return parser.parse_args(line)


def run(**given) -> dict:
    """The results of a benchmark, without the reports."""
    return measured(plan.plan_of(arguments(**given))).found
