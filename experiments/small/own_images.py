"""Images and masks of your own with the stock trainer of a RITM checkout: a complete example.

    fdrn run --codebase RITM --cpu --set OWN_PATH=DIR train.py experiments/small/own_images.py \
        --workers 2

DIR holds images/ and, with the same names and .png, masks/ (one object each: what is not 0) or
instances/ (0 background, a value for each object, 255 void). Also --set: OWN_VAL_PATH=DIR
(validation; without it the training images serve), CHECKPOINT=FILE (a RITM checkpoint or one of
fdrn_adapter to go on from; without it the network starts at random, and thousands of images are
needed), EPOCHS, EPOCH_LEN (samples in an epoch), CROP (side of the crops, pixels) and LR.

`fdrn train --data DIR` does without a checkout.
"""

from pathlib import Path

from isegm.utils.exp_imports.default import *  # noqa: F403

import fdrn_adapter
from fdrn_adapter import training

MODEL_NAME = "small_own_images"
CROP = 192
GLOBAL_SIZE = (320, 320)  # of the image that F1 sees while it learns
NUM_MAX_POINTS = 12


def main(cfg):
    model, model_cfg = init_model(cfg)
    train(model, cfg, model_cfg)


def init_model(cfg):
    if cfg.get("CHECKPOINT"):
        model = fdrn_adapter.load(cfg.CHECKPOINT)
    else:
        model = HRNetModel(  # noqa: F405
            width=18, ocr_width=48, small=True, with_aux_output=True, use_leaky_relu=True,
            use_rgb_conv=False, use_disks=True, norm_radius=5, with_prev_mask=True,
        )
        model.apply(initializer.XavierGluon(rnd_type="gaussian", magnitude=2.0))  # noqa: F405
    if not getattr(model, "is_fdrn", False):
        model = fdrn_adapter.wrap(model, encoder="hrnet18s")  # changes no output until it learns
    model_cfg = edict(crop_size=crop_size(cfg), num_max_points=NUM_MAX_POINTS)  # noqa: F405
    return model.train().to(cfg.device), model_cfg


def crop_size(cfg):
    return (int(cfg.get("CROP", CROP)),) * 2


def dataset(cfg, path, epoch_len, augment, seed):
    """Dynamic-scale samples of a folder; these cut and mirror, so only colours are augmented."""
    one_object = (Path(path) / "masks").is_dir()
    stock = training.instance_folder(
        "isegm", path, masks="masks" if one_object else "instances", binary=one_object,
        augmentator=Compose(augment, p=1.0),  # noqa: F405
        points_sampler=MultiPointSampler(NUM_MAX_POINTS, prob_gamma=0.8),  # noqa: F405
        keep_background_prob=0.0, epoch_len=epoch_len,
    )
    return training.DynamicScaleDataset(
        stock, crop_size=crop_size(cfg), global_size=GLOBAL_SIZE, seed=seed
    )


def train(model, cfg, model_cfg):
    cfg.batch_size = 4 if cfg.batch_size < 1 else cfg.batch_size
    epoch_len = int(cfg.get("EPOCH_LEN", 400))
    loss_cfg = edict(  # noqa: F405
        instance_loss=NormalizedFocalLossSigmoid(alpha=0.5, gamma=2),  # noqa: F405
        instance_loss_weight=1.0,
        instance_aux_loss=SigmoidBinaryCrossEntropyLoss(),  # noqa: F405
        instance_aux_loss_weight=0.4,
    )
    colours = [RandomBrightnessContrast(p=0.75), RGBShift(p=0.75)]  # noqa: F405
    val_len = max(cfg.batch_size, epoch_len // 10)
    trainer = training.dynamic_scale_trainer(ISTrainer)(  # noqa: F405
        model, cfg, model_cfg, loss_cfg,
        dataset(cfg, cfg.OWN_PATH, epoch_len, colours, 0),
        dataset(cfg, cfg.get("OWN_VAL_PATH", cfg.OWN_PATH), val_len, [], 1),
        optimizer="adam",
        optimizer_params={"lr": float(cfg.get("LR", 5e-5)), "betas": (0.9, 0.999), "eps": 1e-8},
        checkpoint_interval=1, image_dump_interval=100, metrics=[AdaptiveIoU()],  # noqa: F405
        max_interactive_points=NUM_MAX_POINTS, max_num_next_clicks=3,
    )
    trainer.run(num_epochs=int(cfg.get("EPOCHS", 20)))
