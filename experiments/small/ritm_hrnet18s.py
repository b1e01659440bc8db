"""Stock RITM HRNet-18s on a small folder in the DAVIS layout (COCO_MVal), for a CPU.

    fdrn run --codebase RITM --cpu --set COCO_MVAL_PATH=DIR train.py \
        experiments/small/ritm_hrnet18s.py --workers 2
"""

from isegm.utils.exp_imports.default import *  # noqa: F403

MODEL_NAME = "small_ritm_hrnet18s"
CROP_SIZE = (160, 160)
NUM_MAX_POINTS = 12


def main(cfg):
    model, model_cfg = init_model(cfg)
    train(model, cfg, model_cfg)


def init_model(cfg):
    model_cfg = edict(crop_size=CROP_SIZE, num_max_points=NUM_MAX_POINTS)  # noqa: F405
    model = HRNetModel(  # noqa: F405
        width=18, ocr_width=48, small=True, with_aux_output=True, use_leaky_relu=True,
        use_rgb_conv=False, use_disks=True, norm_radius=5, with_prev_mask=True,
    )
    model.apply(initializer.XavierGluon(rnd_type="gaussian", magnitude=2.0))  # noqa: F405
    return model.to(cfg.device), model_cfg


def train(model, cfg, model_cfg):
    cfg.batch_size = 4 if cfg.batch_size < 1 else cfg.batch_size
    cfg.val_batch_size = cfg.batch_size
    epoch_len = int(cfg.get("EPOCH_LEN", 400))
    loss_cfg = edict(  # noqa: F405
        instance_loss=NormalizedFocalLossSigmoid(alpha=0.5, gamma=2),  # noqa: F405
        instance_loss_weight=1.0,
        instance_aux_loss=SigmoidBinaryCrossEntropyLoss(),  # noqa: F405
        instance_aux_loss_weight=0.4,
    )

    def dataset(augment, length):
        return DavisDataset(  # noqa: F405
            cfg.COCO_MVAL_PATH,
            augmentator=Compose(augment, p=1.0),  # noqa: F405
            points_sampler=MultiPointSampler(NUM_MAX_POINTS, prob_gamma=0.80),  # noqa: F405
            min_object_area=400, keep_background_prob=0.0, epoch_len=length,
        )

    rows, cols = model_cfg.crop_size
    cut = [
        PadIfNeeded(min_height=rows, min_width=cols, border_mode=0),  # noqa: F405
        RandomCrop(rows, cols),  # noqa: F405
    ]
    shake = [
        UniformRandomResize(scale_range=(0.4, 0.9)), HorizontalFlip(), *cut,  # noqa: F405
        RandomBrightnessContrast(p=0.75), RGBShift(p=0.75),  # noqa: F405
    ]
    steady = [UniformRandomResize(scale_range=(0.6, 0.6)), *cut]  # noqa: F405
    trainer = ISTrainer(  # noqa: F405
        model, cfg, model_cfg, loss_cfg,
        dataset(shake, epoch_len), dataset(steady, max(cfg.batch_size, epoch_len // 10)),
        optimizer="adam", optimizer_params={"lr": 5e-4, "betas": (0.9, 0.999), "eps": 1e-8},
        lr_scheduler=partial(  # noqa: F405
            torch.optim.lr_scheduler.MultiStepLR, milestones=[40, 50], gamma=0.1  # noqa: F405
        ),
        checkpoint_interval=1, image_dump_interval=100, metrics=[AdaptiveIoU()],  # noqa: F405
        max_interactive_points=NUM_MAX_POINTS, max_num_next_clicks=3,
    )
    trainer.run(num_epochs=int(cfg.get("EPOCHS", 55)))
