"""Tiny data in the layouts of the stock data sets, and experiment files run on them."""

import contextlib
import importlib.util
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from fdrn_adapter import codebase
from support.codebase_fixtures import checkout
from support.training_fixtures import config, write_folder

ROOT = Path(__file__).parents[2] / "experiments"
ROWS, COLS, COUNT = 160, 220, 4
VARIABLES = {"RITM": "FDRN_RITM_ROOT", "ClickSEG": "FDRN_CLICKSEG_ROOT"}


def load(path: Path):
    """An experiment file as a module, as train.py loads it."""
    spec = importlib.util.spec_from_file_location("model_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def world(kind: str):
    """A code base for as long as the context lasts: "ritm_annotation", "RITM" or "ClickSEG"."""
    if kind == "ritm_annotation":
        pytest.importorskip("ritm_annotation")
        yield
        return
    code_base = codebase.activate(checkout(VARIABLES[kind]))
    try:
        yield
    finally:
        codebase.deactivate(code_base)


def folder(root: Path, count: int = COUNT) -> tuple[Path, list[tuple[np.ndarray, np.ndarray]]]:
    """(folder of images and label maps, [(BGR image, labels)])."""
    write_folder(root, count, ROWS, COLS)
    pairs = [
        tuple(cv2.imread(str(root / kind / f"{i}.png"), cv2.IMREAD_UNCHANGED)
              for kind in ("images", "instances"))
        for i in range(count)
    ]
    return root, pairs


def sbd(root: Path, pairs) -> Path:
    from scipy.io import savemat

    for name in ("img", "inst"):
        (root / name).mkdir(parents=True)
    for i, (image, labels) in enumerate(pairs):
        cv2.imwrite(str(root / "img" / f"{i}.jpg"), image)
        record = np.zeros((1, 1), dtype=[("Segmentation", object)])
        record[0, 0]["Segmentation"] = labels
        savemat(str(root / "inst" / f"{i}.mat"), {"GTinst": record})
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("".join(f"{i}\n" for i in range(len(pairs))))
    return root


def coco_lvis(root: Path, pairs) -> Path:
    """RITM's layout: a layer of masks in a pickle, the tree of objects in another."""
    for split in ("train", "val"):
        for name in ("images", "masks"):
            (root / split / name).mkdir(parents=True)
        annotation = {}
        for i, (image, labels) in enumerate(pairs):
            cv2.imwrite(str(root / split / "images" / f"{i}.jpg"), image)
            layers = [cv2.imencode(".png", labels)[1]]
            with (root / split / "masks" / f"{i}.pickle").open("wb") as file:
                pickle.dump((layers, [(0, 1), (0, 2)]), file)
            annotation[str(i)] = {"hierarchy": {0: None, 1: None}, "num_instance_masks": 2}
        with (root / split / "hannotation.pickle").open("wb") as file:
            pickle.dump(annotation, file)
    return root


def brats(root: Path, count: int = 3, depth: int = 8) -> Path:
    """Volumes with a round tumour of three nested labels in their middle slices."""
    nibabel = pytest.importorskip("nibabel")
    generator = np.random.default_rng(0)
    x, y = np.mgrid[:120, :100]
    for i in range(count):
        name = f"BraTS2021_{i:05d}"
        (root / name).mkdir(parents=True)
        labels = np.zeros((120, 100, depth), np.uint8)
        for z in range(2, depth - 2):
            distance = np.hypot(x - 70, y - 40)
            for radius, label in ((28, 2), (20, 1), (14, 4)):
                labels[..., z][distance < radius] = label
        head = np.hypot(x - 60, y - 50)[..., None] < 48
        scan = head * (200 + 300 * (labels > 0) + generator.normal(0, 20, labels.shape))
        for kind, data in (("flair", scan.astype(np.int16)), ("seg", labels)):
            volume = nibabel.Nifti1Image(data, np.eye(4))
            nibabel.save(volume, root / name / f"{name}_{kind}.nii.gz")
    return root


def davis(root: Path, pairs) -> Path:
    for name in ("img", "gt"):
        (root / name).mkdir(parents=True)
    for i, (image, labels) in enumerate(pairs):
        cv2.imwrite(str(root / "img" / f"{i}.jpg"), cv2.resize(image, (480, 320)))
        mask = cv2.resize((labels > 0).astype(np.uint8) * 255, (480, 320))
        cv2.imwrite(str(root / "gt" / f"{i}.png"), mask)
    return root


def run_main(module, out: Path, **settings) -> list[float]:
    """Run main(cfg) as train.py would; the sum of gradient sizes of every optimizer step."""
    steps: list[float] = []

    def record(optimizer, args, kwargs):
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        assert all(p.isfinite().all() for p in parameters)
        steps.append(sum(float(p.grad.abs().sum()) for p in parameters if p.grad is not None))

    out.mkdir(parents=True, exist_ok=True)
    cfg = config(out, EXPS_PATH=str(out), **settings)
    hook = register_optimizer_step_post_hook(record)
    here = Path.cwd()
    os.chdir(out)  # relative paths of an experiment must not reach into the repository
    try:
        torch.manual_seed(0)
        module.main(cfg)
    finally:
        os.chdir(here)
        hook.remove()
    return steps
