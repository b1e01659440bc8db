"""Small data sets, stock trainers and their configurations for the training tests."""

import importlib
from pathlib import Path

import cv2
import numpy as np
import torch
from easydict import EasyDict as edict

import fdrn_adapter
from fdrn_adapter import training
from fdrn_adapter.training import paper
from support.networks import build_host

PACKAGE = "ritm_annotation"


def write_folder(root: Path, count: int = 4, rows: int = 120, cols: int = 160) -> Path:
    """Pictures with two bright ellipses each, in the layout of `training.instance_folder`."""
    for name in ("images", "instances"):
        (root / name).mkdir(parents=True)
    generator = np.random.default_rng(0)
    for i in range(count):
        labels = np.zeros((rows, cols), np.uint8)
        for label in (1, 2):
            centre = (int(cols * (label / 3)), int(rows * generator.uniform(0.35, 0.65)))
            axes = (cols // 9, rows // 6)
            cv2.ellipse(labels, centre, axes, 0, 0, 360, label, -1)
        image = generator.integers(0, 120, (rows, cols, 3)).astype(np.uint8)
        image[labels > 0] += 120
        cv2.imwrite(str(root / "images" / f"{i}.png"), image)
        cv2.imwrite(str(root / "instances" / f"{i}.png"), labels)
    return root


def stock_dataset(root: Path, package: str = PACKAGE, max_points: int = 6, **options):
    """The pictures as a stock data set."""
    sampler = importlib.import_module(f"{package}.data.points_sampler").MultiPointSampler
    return training.instance_folder(
        package, root, points_sampler=sampler(max_points, prob_gamma=0.8), **options
    )


def config(folder: Path, batch_size: int = 2, **extra) -> edict:
    """The entries of the stock `cfg` that its trainer reads."""
    for name in ("checkpoints", "logs", "vis"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return edict(
        batch_size=batch_size, val_batch_size=batch_size, distributed=False, multi_gpu=False,
        ngpus=1, gpu_ids=[0], local_rank=0, workers=0, device=torch.device("cpu"), start_epoch=0,
        weights=None, resume_exp=None, resume_prefix="", CHECKPOINTS_PATH=folder / "checkpoints",
        LOGS_PATH=folder / "logs", VIS_PATH=folder / "vis", **extra,
    )


def make_trainer(model, cfg, trainset, package: str = PACKAGE, lr: float = 1e-3, **options):
    """A dynamic-scale trainer of RITM with its usual losses."""
    metrics = importlib.import_module(f"{package}.model.metrics")
    stock = importlib.import_module(f"{package}.engine.trainer").ISTrainer
    options = {"max_num_next_clicks": 3, **options}
    return training.dynamic_scale_trainer(stock)(
        model, cfg, edict(crop_size=trainset.crop_size, num_max_points=6),
        paper.losses(model, package),
        trainset, trainset, optimizer="adam",
        optimizer_params={"lr": lr, "betas": (0.9, 0.999), "eps": 1e-8},
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda epoch: 0.9**epoch
        ),
        image_dump_interval=0, metrics=[metrics.AdaptiveIoU()], max_interactive_points=6, **options,
    )


def fdrn_model(**options):
    """An FDRN around the light host, with the paper's modules."""
    return fdrn_adapter.wrap(
        build_host("tiny"), **{"encoder": "hrnet18s", "init": "paper", **options}
    )
