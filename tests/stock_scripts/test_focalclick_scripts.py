"""FocalClick FDRNs in the stock scripts of a real ClickSEG checkout.

Needs FDRN_CLICKSEG_ROOT; skipped without. Real images: the GrabCut folder named by
FDRN_GRABCUT_ROOT and the COCO_MVal folder (DAVIS layout) named by FDRN_COCO_MVAL_ROOT where they
are set, else generated pictures.
"""

import json
import os
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support.codebase_fixtures import checkout, hash_tree, python
from support.focalclick import ALL, VARIABLE
from support.stock import picture

HERE = Path(__file__).parents[1]
DEFAULT_PAIRS = (("18s", "s1"), ("b0", "s2"))

MAKE_PAIR = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
import fdrn_adapter
from support.focalclick import clickseg, taught
with clickseg():
    host = taught(sys.argv[2], sys.argv[3], crop=96)
    fdrn_adapter.save(host, "stock.pth")
    fdrn_adapter.save(fdrn_adapter.wrap(host), "fdrn.pth")
"""

EXPERIMENT = """
import json
from isegm.utils.exp_imports.default import *
from isegm.engine.focalclick_trainer import ISTrainer
from fdrn_adapter import zoo
MODEL_NAME = 'star'

class Watched(ISTrainer):
    '''The stock trainer; tells every loss of every step.'''
    def batch_forward(self, *args, **kwargs):
        out = super().batch_forward(*args, **kwargs)
        kind = 'VAL' if kwargs.get('validation') else 'STEP'
        print(kind + json.dumps({{name: value.item() for name, value in out[1].items()}}),
              flush=True)
        return out

def main(cfg):
    torch.manual_seed(0)
    model = zoo.build('{name}').train().to(cfg.device)
    crop, points, cfg.val_batch_size = (96, 96), 8, cfg.batch_size
    loss_cfg = edict(
        instance_loss=NormalizedFocalLossSigmoid(alpha=0.5, gamma=2), instance_loss_weight=1.0,
        instance_refine_loss=WFNL(alpha=0.5, gamma=2, w=0.5), instance_refine_loss_weight=1.0,
        trimap_loss=torch.nn.BCEWithLogitsLoss(), trimap_loss_weight=1.0)
    augment = Compose([UniformRandomResize(scale_range=(0.25, 0.4)), HorizontalFlip(),
                       PadIfNeeded(min_height=96, min_width=96, border_mode=0), RandomCrop(*crop),
                       RandomBrightnessContrast(p=0.75), RGBShift(p=0.75)], p=1.0)
    data = DavisDataset(cfg.COCO_MVAL_PATH, augmentator=augment,
                        points_sampler=MultiPointSampler(points, prob_gamma=0.8),
                        min_object_area=100, keep_background_prob=0.0, epoch_len=6)
    trainer = Watched(model, cfg, edict(crop_size=crop, num_max_points=points), loss_cfg, data,
                      data, optimizer='adam',
                      optimizer_params=dict(lr=5e-4, betas=(0.9, 0.999), eps=1e-8),
                      lr_scheduler=partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[1]),
                      checkpoint_interval=1, image_dump_interval=1, metrics=[AdaptiveIoU()],
                      max_interactive_points=points, max_num_next_clicks=2)
    trainer.run(num_epochs=cfg.start_epoch + 1)
    gradients = {{name: float(p.grad.abs().sum()) if p.grad is not None else None
                  for name, p in model.named_parameters() if p.requires_grad}}
    print('GRADIENTS' + json.dumps(gradients), flush=True)
"""


@pytest.fixture(scope="module")
def root():
    root = checkout(VARIABLE)
    before = hash_tree(root)
    yield root
    assert hash_tree(root) == before


def pictures(folder: Path, images: str, masks: str, count: int = 2) -> Path:
    """Generated pictures and masks in two sub-folders."""
    for name in (images, masks):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        rgb = cv2.resize(np.roll(picture(), 15 * i, axis=1), (900, 600))
        mask = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) > 110).astype(np.uint8) * 255
        cv2.imwrite(str(folder / images / f"{i}.png"), rgb[..., ::-1])
        cv2.imwrite(str(folder / masks / f"{i}.png"), mask)
    return folder


@pytest.fixture(scope="module")
def grabcut(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("grabcut")
    given = os.environ.get("FDRN_GRABCUT_ROOT")
    if not given:
        return pictures(folder, "data_GT", "boundary_GT")
    for name in ("data_GT", "boundary_GT"):
        (folder / name).mkdir()
    images = sorted(Path(given, "data_GT").iterdir())
    for image in images[:: max(1, len(images) // 10)][:10]:
        (folder / "data_GT" / image.name).symlink_to(image)
        (mask,) = Path(given, "boundary_GT").glob(f"{image.stem}.*")
        (folder / "boundary_GT" / mask.name).symlink_to(mask)
    return folder


@pytest.fixture(scope="module")
def coco_mval(tmp_path_factory) -> Path:
    given = os.environ.get("FDRN_COCO_MVAL_ROOT")
    return Path(given) if given else pictures(tmp_path_factory.mktemp("coco"), "img", "gt")


def launch(root: Path, cwd: Path, *arguments: str):
    process = python("-m", "fdrn_adapter.launcher", "--codebase", str(root), "--cpu",
                     "--set", "EXPS_PATH=out", *arguments, cwd=cwd, timeout=3600)
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-6000:]
    return process


def evaluate(root: Path, cwd: Path, grabcut: Path, checkpoint: str) -> list[np.ndarray]:
    """IoUs of each image after each of three clicks, by the stock evaluation script."""
    process = launch(
        root, cwd, "--set", f"GRABCUT_PATH={grabcut}", "scripts/evaluate_model.py", "FocalClick",
        "--model_dir", "./", "--checkpoint", checkpoint, "--datasets", "GrabCut",
        "--n-clicks", "3", "--infer-size", "96", "--save-ious",
    )
    assert "| FocalClick  |  GrabCut  |" in process.stdout
    (file,) = (cwd / "out").rglob(f"{checkpoint.removesuffix('.pth')}/ious/*.pkl")
    with file.open("rb") as f:
        stored = pickle.load(f)
    return [np.asarray(ious) for ious in stored]


@pytest.mark.parametrize(("kind", "pipeline"), [
    pair if pair in DEFAULT_PAIRS else pytest.param(*pair, marks=pytest.mark.slow) for pair in ALL
])
def test_evaluation_of_stock_and_identity_fdrn_agree(root, tmp_path, grabcut, kind, pipeline):
    made = python("-c", MAKE_PAIR, str(HERE), kind, pipeline, cwd=tmp_path)
    assert made.returncode == 0, made.stderr[-3000:]
    stock, fdrn = (evaluate(root, tmp_path, grabcut, f"{n}.pth") for n in ("stock", "fdrn"))
    assert len(stock) == len(fdrn) == len(list((grabcut / "data_GT").iterdir()))
    assert max(ious.max() for ious in stock) > 0.02, "nothing was segmented: shows nothing"
    for a, b in zip(stock, fdrn, strict=True):
        assert len(a) == len(b) and np.abs(a - b).max() < 1e-4


def lines(text: str, mark: str) -> list[dict]:
    return [json.loads(line[len(mark) :]) for line in text.splitlines() if line.startswith(mark)]


@pytest.mark.parametrize("name", ["H2-hrnet18s-star", "B0-segformerB0-star"])
def test_three_steps_of_the_stock_trainer(root, tmp_path, grabcut, coco_mval, name):
    """Finite losses, gradients in every part, checkpoint, resume, evaluation of the result."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "star.py").write_text(EXPERIMENT.format(name=name))
    common = ("--set", f"COCO_MVAL_PATH={coco_mval}", "train.py", "experiments/star.py",
              "--workers", "0", "--batch-size", "2")
    first = launch(root, tmp_path, *common)
    steps = lines(first.stdout, "STEP")
    assert len(steps) == 3
    wanted = {"instance_loss", "instance_refine_loss", "trimap_loss"}
    assert all(wanted <= step.keys() and np.isfinite(list(step.values())).all() for step in steps)
    (gradients,) = lines(first.stdout, "GRADIENTS")
    clicks = "host.maps_transform"
    if "segformer" in name:
        clicks = "host.feature_extractor.backbone.patch_embed_side1"
    parts = ["sfi.conv", "sfi.block.residual", "sfi.block.shortcut", "tfi.block.residual",
             "tfi.block.shortcut", f"{clicks}.current", f"{clicks}.history", f"{clicks}.fuse",
             "image_encoder.backbone", "image_encoder.key_view", "image_encoder.query_view",
             "host.refiner", "host.feature_extractor"]
    parts += ["image_encoder.low_projection"] * ("segformer" in name)
    for part in parts:
        mine = [v for k, v in gradients.items() if k.startswith(part + ".")]
        assert mine and np.isfinite([v for v in mine if v is not None]).all(), part
        assert sum(v or 0 for v in mine) > 0, part

    checkpoints = tmp_path / "out" / "star" / "000" / "checkpoints"
    launch(root, tmp_path, *common, "--resume-exp", "000", "--resume-prefix", "last",
           "--start-epoch", "1")
    before, after = (torch.load(checkpoints / f"00{i}.pth", weights_only=True) for i in (0, 1))
    assert before["config"] == after["config"]
    assert before["config"]["class"] == "fdrn_adapter.model.FDRNModel"
    before, after = before["state_dict"], after["state_dict"]
    assert all(v.isfinite().all() for v in after.values())
    moved = {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}
    assert moved == {"host", "image_encoder", "sfi", "tfi"}
    shutil.copy(checkpoints / "001.pth", tmp_path / "trained.pth")
    assert np.isfinite(np.concatenate(evaluate(root, tmp_path, grabcut, "trained.pth"))).all()
