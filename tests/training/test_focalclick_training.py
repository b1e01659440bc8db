"""The FocalClick trainer on dynamic-scale samples, whose focus crops are made of the crop.

Needs FDRN_CLICKSEG_ROOT; skipped without.
"""

import importlib

import numpy as np
import pytest
import torch
from easydict import EasyDict as edict
from support import experiment_fixtures as made
from support.focalclick import build
from support.training_fixtures import config, stock_dataset

import fdrn_adapter
from fdrn_adapter import training
from fdrn_adapter.training import paper

CROP, GLOBAL = (128, 128), (96, 96)
CLICKS = {"18s": "host.maps_transform", "b0": "host.feature_extractor.backbone.patch_embed_side1"}


@pytest.fixture(scope="module", autouse=True)
def clickseg():
    with made.world("ClickSEG"):
        yield


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder, _ = made.folder(tmp_path_factory.mktemp("data") / "drawn")
    return training.DynamicScaleDataset(stock_dataset(folder, "isegm"), CROP, GLOBAL)


def trainer_of(model, samples, out, **options):
    stock = importlib.import_module("isegm.engine.focalclick_trainer").ISTrainer
    metrics = importlib.import_module("isegm.model.metrics")
    return training.dynamic_scale_trainer(stock)(
        model, config(out), edict(crop_size=CROP, num_max_points=6), paper.losses(model, "isegm"),
        samples, samples, optimizer="adam",
        optimizer_params={"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8},
        image_dump_interval=1, metrics=[metrics.AdaptiveIoU()], max_interactive_points=6, **options,
    )


def test_focus_crops_are_in_the_frame_of_the_crop(samples):
    """What the refiner sees is the part of the crop that `rois` (x1, y1, x2, y2) names."""
    for index in range(4):
        item = samples[index]
        x1, y1, x2, y2 = item["rois"].int().tolist()
        assert 0 <= x1 < x2 <= CROP[1] and 0 <= y1 < y2 <= CROP[0]
        part = item["images"][:, y1:y2, x1:x2][None]
        resized = torch.nn.functional.interpolate(part, CROP, mode="bilinear", align_corners=False)
        assert (resized[0] - item["images_focus"]).abs().mean() < 0.02
        half = len(item["points"]) // 2
        for i, (row, col, order) in enumerate(item["points"]):
            if order >= 0:
                assert bool(item["instances"][0, int(row), int(col)]) == (i < half)
        assert item["fdrn_roi"].shape == (4,) and item["fdrn_global"].shape == (3, *GLOBAL)


@pytest.mark.parametrize("kind", ["b0", pytest.param("18s", marks=pytest.mark.slow)])
def test_three_steps(samples, tmp_path, kind):
    """One encoding per phase whatever the clicks, all losses of eq. 5, gradients everywhere."""
    encoder = {"18s": "hrnet18s", "b0": "segformer_b0"}[kind]
    model = fdrn_adapter.wrap(build(kind).train(), encoder=encoder, init="paper", copy=False)
    trainer = trainer_of(model, samples, tmp_path, max_num_next_clicks=3)
    encodings, network, clicked = [], [], 0
    model.image_encoder.register_forward_hook(
        lambda *_: encodings.append(torch.is_grad_enabled())
    )
    model.host.register_forward_hook(lambda *_: network.append(torch.is_grad_enabled()))
    touched: set[str] = set()
    terms = {"instance_loss", "trimap_loss", "instance_refine_loss"}
    if kind == "18s":
        terms.add("instance_aux_loss")
    for _ in range(3):
        encodings.clear(), network.clear()
        batch = next(iter(trainer.train_data))
        trainer.net.train()
        loss, logged, *_ = trainer.batch_forward(batch)
        trainer.optim.zero_grad()
        loss.backward()
        trainer.optim.step()
        assert terms <= logged.keys() and np.isfinite([v.item() for v in logged.values()]).all()
        assert network.count(True) == 1 and encodings.count(True) == 1
        assert encodings.count(False) == min(1, network.count(False))
        clicked += network.count(False)
        touched |= {n for n, p in model.named_parameters()
                    if p.grad is not None and p.grad.abs().sum() > 0}
    assert clicked > 1
    clicks = CLICKS[kind]
    parts = ["sfi.conv", "sfi.block", "tfi.block", f"{clicks}.current", f"{clicks}.history",
             f"{clicks}.fuse", "image_encoder.backbone", "image_encoder.key_view",
             "image_encoder.query_view", "host.refiner", "host.feature_extractor"]
    parts += ["image_encoder.low_projection"] * (kind == "b0")
    for part in parts:
        assert any(name.startswith(part + ".") for name in touched), part


def test_an_epoch_of_the_stock_loop_is_resumed(samples, tmp_path):
    model = fdrn_adapter.wrap(build("b0").train(), init="identity", copy=False)
    trainer = trainer_of(model, samples, tmp_path, max_num_next_clicks=1, adapter_epochs=1)
    host = "host.feature_extractor.backbone.block1.0.mlp.fc1.weight"
    before = {k: v.clone() for k, v in model.state_dict().items()}
    trainer.run(num_epochs=1)
    after = model.state_dict()
    assert torch.equal(before[host], after[host])
    name = "host.feature_extractor.backbone.patch_embed_side1.fuse.weight"
    assert not torch.equal(before[name], after[name])
    again = trainer_of(fdrn_adapter.wrap(build("b0", seed=1).train(), copy=False), samples,
                       tmp_path, max_num_next_clicks=1, adapter_epochs=1)
    assert again.cfg.start_epoch == 1
    assert all(torch.equal(v, after[k]) for k, v in again.net.state_dict().items())
    assert list((tmp_path / "vis").rglob("*.jpg"))
