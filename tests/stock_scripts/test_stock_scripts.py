"""The stock scripts of the real checkouts, run unchanged by `fdrn run`, on tiny data.

Needs FDRN_RITM_ROOT and FDRN_CLICKSEG_ROOT; skipped without. Nets are untrained and pictures
small: these tests show that every line runs, not that anything is segmented well.
"""

from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from support.codebase_fixtures import checkout, environment, hash_tree, python

RITM, CLICKSEG = "FDRN_RITM_ROOT", "FDRN_CLICKSEG_ROOT"

MAKE_CHECKPOINT = """
import sys, torch
from fdrn_adapter import codebase
codebase.activate(sys.argv[1])
torch.manual_seed(0)
common = dict(use_leaky_relu=True, use_rgb_conv=False, use_disks=True, norm_radius=5,
              with_prev_mask=True, with_aux_output=True)
if sys.argv[2] == 'segformer':
    from isegm.model.is_segformer_model import SegFormerModel
    net = SegFormerModel(pipeline_version='s2', model_version='b0', **common)
else:
    from isegm.model.is_hrnet_model import HRNetModel
    net = HRNetModel(width=18, ocr_width=16, small=True, **common)
torch.save({'state_dict': net.state_dict(), 'config': net._config}, sys.argv[3])
"""

EXPERIMENT = """
from isegm.utils.exp_imports.default import *
{imports}
MODEL_NAME = 'tiny'

def main(cfg):
    model = {model}
    model.to(cfg.device)
    cfg.batch_size = 2 if cfg.batch_size < 1 else cfg.batch_size
    cfg.val_batch_size = cfg.batch_size
    crop = (64, 64)
    loss_cfg = edict(instance_loss=NormalizedFocalLossSigmoid(alpha=0.5, gamma=2),
                     instance_loss_weight=1.0{losses})
    augment = Compose([UniformRandomResize(scale_range=(0.9, 1.1)), HorizontalFlip(),
                       PadIfNeeded(min_height=64, min_width=64, border_mode=0), RandomCrop(*crop),
                       RandomBrightnessContrast(p=0.75), RGBShift(p=0.75)], p=1.0)
    sampler = MultiPointSampler(6, prob_gamma=0.8)
    data = DavisDataset(cfg.COCO_MVAL_PATH, augmentator=augment, points_sampler=sampler,
                        min_object_area=100, keep_background_prob=0.05, epoch_len=4)
    trainer = ISTrainer(model, cfg, edict(crop_size=crop, num_max_points=6), loss_cfg, data, data,
                        optimizer='adam',
                        optimizer_params=dict(lr=5e-4, betas=(0.9, 0.999), eps=1e-8),
                        lr_scheduler=partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[1]),
                        checkpoint_interval=1, image_dump_interval=1, metrics=[AdaptiveIoU()],
                        max_interactive_points=6, max_num_next_clicks=2)
    trainer.run(num_epochs=cfg.start_epoch + 1)
"""
COMMON_ARGUMENTS = ("use_leaky_relu=True, use_rgb_conv=False, use_disks=True, norm_radius=5, "
                    "with_prev_mask=True, with_aux_output=True")
EXPERIMENTS = {
    RITM: EXPERIMENT.format(
        imports="", losses="",
        model=f"HRNetModel(width=18, ocr_width=16, small=True, {COMMON_ARGUMENTS})"),
    CLICKSEG: EXPERIMENT.format(
        imports="from isegm.engine.focalclick_trainer import ISTrainer",
        model=f"SegFormerModel(pipeline_version='s2', model_version='b0', {COMMON_ARGUMENTS})",
        losses=", instance_refine_loss=WFNL(alpha=0.5, gamma=2, w=0.5), "
               "instance_refine_loss_weight=1.0, trimap_loss=torch.nn.BCEWithLogitsLoss(), "
               "trimap_loss_weight=1.0"),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two pictures in the stock layouts of GrabCut and of COCO_MVal."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for folder in ("data_GT", "boundary_GT", "img", "gt"):
        (root / folder).mkdir()
    for i in range(2):
        mask = np.zeros((80, 96), np.uint8)
        cv2.ellipse(mask, (48, 40), (28 + i, 24), 0, 0, 360, 255, -1)
        image = rng.integers(0, 120, (80, 96, 3), dtype=np.uint8) + (mask[..., None] // 2)
        cv2.imwrite(str(root / "data_GT" / f"{i}.png"), image)
        cv2.imwrite(str(root / "img" / f"{i}.jpg"), image)
        cv2.imwrite(str(root / "boundary_GT" / f"{i}.png"), mask)
        cv2.imwrite(str(root / "gt" / f"{i}.png"), mask)
    return root


@pytest.fixture(autouse=True, scope="module")
def checkouts_stay_as_they_are():
    """Compare every byte of both checkouts before and after all tests of this module."""
    import os

    roots = [Path(os.environ[name]) for name in (RITM, CLICKSEG) if os.environ.get(name)]
    before = [hash_tree(root) for root in roots]
    yield
    assert [hash_tree(root) for root in roots] == before


def launch(root: Path, cwd: Path, *arguments: str):
    process = python("-m", "fdrn_adapter.launcher", "--codebase", str(root), "--cpu",
                     "--set", "EXPS_PATH=out", *arguments, cwd=cwd)
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-6000:]
    return process


def make_checkpoint(root: Path, family: str, path: Path) -> str:
    process = python("-c", MAKE_CHECKPOINT, str(root), family, str(path), cwd=path.parent)
    assert process.returncode == 0, process.stderr
    return path.name


def ious_of(folder: Path) -> list[np.ndarray]:
    (file,) = folder.rglob("*.pkl")
    with file.open("rb") as f:
        return pickle.load(f)


def test_ritm_evaluation_and_plots(tmp_path, data):
    root = checkout(RITM)
    name = make_checkpoint(root, "hrnet", tmp_path / "net.pth")
    common = ("--set", f"GRABCUT_PATH={data}", "scripts/evaluate_model.py", "NoBRS",
              "--checkpoint", name, "--datasets", "GrabCut", "--n-clicks", "2")
    process = launch(root, tmp_path, *common, "--vis-preds", "--save-ious")
    assert "|    NoBRS    |  GrabCut  |" in process.stdout and "NoC@85%" in process.stdout
    logs = tmp_path / "out" / "evaluation_logs" / "others" / "net"
    assert len(list((logs / "predictions_vis" / "GrabCut").glob("*.jpg"))) >= 2
    assert [len(x) <= 2 for x in ious_of(logs)] == [True, True]
    launch(root, tmp_path, *common, "--eval-mode", "fixed96", "--iou-analysis")
    process = launch(root, tmp_path, "scripts/plot_ious_analysis.py",
                     "--folder", "out/evaluation_logs/others/net/plots")
    assert "mIoU@1=" in process.stdout
    assert list((tmp_path / "out" / "evaluation_logs" / "iou_analysis").glob("GrabCut_*.png"))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["f-BRS-B", "RGB-BRS", "DistMap-BRS"])
def test_brs_modes_of_stock_networks(tmp_path, data, mode):
    root = checkout(RITM)
    name = make_checkpoint(root, "hrnet", tmp_path / "net.pth")
    process = launch(root, tmp_path, "--set", f"GRABCUT_PATH={data}", "scripts/evaluate_model.py",
                     mode, "--checkpoint", name, "--datasets", "GrabCut", "--n-clicks", "2",
                     "--eval-mode", "fixed96")
    assert f"{mode:^13}" in process.stdout


@pytest.mark.parametrize("family", ["hrnet", "segformer"])
def test_clickseg_evaluation(tmp_path, data, family):
    root = checkout(CLICKSEG)
    name = make_checkpoint(root, family, tmp_path / "net.pth")
    process = launch(root, tmp_path, "--set", f"GRABCUT_PATH={data}", "scripts/evaluate_model.py",
                     "FocalClick", "--model_dir", "./", "--checkpoint", name, "--datasets",
                     "GrabCut", "--n-clicks", "3", "--infer-size", "64", "--vis")
    assert "| FocalClick  |  GrabCut  |" in process.stdout
    assert (tmp_path / "out" / "vis_val" / "GrabCut" / "0.png").is_file()


@pytest.mark.parametrize("variable", [RITM, CLICKSEG])
def test_training_of_an_experiment_outside_the_checkout(tmp_path, data, variable):
    train_and_resume(checkout(variable), EXPERIMENTS[variable], tmp_path, data)


def train_and_resume(root: Path, experiment: str, cwd: Path, data: Path) -> None:
    """One epoch, a checkpoint, one more epoch from it."""
    (cwd / "experiments").mkdir(parents=True)
    (cwd / "experiments" / "tiny.py").write_text(experiment)
    common = ("--set", f"COCO_MVAL_PATH={data}", "train.py", "experiments/tiny.py", "--workers",
              "1")
    launch(root, cwd, *common)
    checkpoints = cwd / "out" / "tiny" / "000" / "checkpoints"
    first = torch.load(checkpoints / "000.pth")["state_dict"]
    assert all(value.isfinite().all() for value in first.values())
    assert list((cwd / "out" / "tiny" / "000" / "vis").rglob("*.jpg"))
    process = launch(root, cwd, *common, "--resume-exp", "000", "--resume-prefix", "last",
                     "--start-epoch", "1")
    assert "Load checkpoint from path" in process.stderr
    second = torch.load(checkpoints / "001.pth")["state_dict"]
    changed = [key for key in first if not torch.equal(first[key], second[key])]
    assert changed and all(second[key].isfinite().all() for key in changed)
    assert not list(cwd.rglob("__pycache__"))


@pytest.mark.slow
def test_training_in_two_processes(tmp_path, data):
    import subprocess

    root = checkout(RITM)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "tiny.py").write_text(EXPERIMENTS[RITM])
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2",
               "--master_port=29517", "-m", "fdrn_adapter.launcher", "--codebase", str(root),
               "--cpu", "--set", "EXPS_PATH=out", "--set", f"COCO_MVAL_PATH={data}", "train.py",
               "experiments/tiny.py", "--workers", "1", "--batch-size", "4"]
    process = subprocess.run(command, cwd=tmp_path, env=environment(), text=True,
                             capture_output=True, timeout=3600, check=False)
    assert process.returncode == 0, process.stderr[-4000:]
    assert [p.name for p in (tmp_path / "out" / "tiny").iterdir()] == ["000"]
    assert (tmp_path / "out" / "tiny" / "000" / "checkpoints" / "last_checkpoint.pth").is_file()


DRIVE_DEMO = """
import sys, tkinter as tk
from tkinter import filedialog

IMAGE = sys.argv[1]  # the launcher replaces sys.argv

def drive(app, n=0):
    root, controller = app.master, app.controller
    def click(x, y, button):
        app.canvas.event_generate(f'<Button-{button}>', x=x, y=y)
        app.canvas.event_generate(f'<ButtonRelease-{button}>', x=x, y=y)
        root.update()
    root.update()
    filedialog.askopenfilename = lambda **kwargs: IMAGE
    app._load_image_callback()
    root.update()
    click(190, 190, 1)
    first = controller.current_object_prob.copy()
    click(230, 210, 3)
    assert len(controller.clicker) == 2
    controller.undo_click()
    root.update()
    assert (controller.current_object_prob == first).all() and len(controller.clicker) == 1
    app.finish_object_button.invoke()
    root.update()
    click(200, 180, 1)
    print('OBJECTS', controller.object_count, 'CLICKS', len(controller.clicker))

tk.Misc.mainloop = drive
from fdrn_adapter import launcher
sys.exit(launcher.main(launcher.parse(sys.argv[2:])))
"""


def test_demo_under_a_virtual_display(tmp_path, data):
    root = checkout(RITM)
    if shutil.which("xvfb-run") is None:
        pytest.skip("xvfb-run is not installed")
    pytest.importorskip("tkinter")
    import subprocess

    name = make_checkpoint(root, "hrnet", tmp_path / "net.pth")
    (tmp_path / "drive.py").write_text(DRIVE_DEMO)
    command = ["xvfb-run", "-a", "-s", "-screen 0 1280x900x24", sys.executable, "drive.py",
               str(data / "data_GT" / "0.png"), "--codebase", str(root), "--cpu", "demo.py",
               "--checkpoint", name, "--limit-longest-size", "128"]
    process = subprocess.run(command, cwd=tmp_path, env=environment(), text=True,
                             capture_output=True, timeout=3600, check=False)
    assert "OBJECTS 1 CLICKS 1" in process.stdout, process.stderr[-4000:]
    assert process.returncode == 0
