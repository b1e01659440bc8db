"""Files of commit 0f3b373, before the wings, still load: data/older, made by the script there."""

import importlib.util
import json
import lzma
import shutil
from pathlib import Path

import pytest
import torch
from support.evaluation_data import grabcut, run
from support.training_fixtures import config, fdrn_model, make_trainer, stock_dataset, write_folder

import fdrn_adapter
from fdrn_adapter import training
from fdrn_adapter.model.settings import EARLIER_MODULES
from fdrn_adapter.training import state

OLDER = Path(__file__).parent / "data" / "older"


def unpacked(name: str, to: Path) -> Path:
    path = to / name
    path.write_bytes(lzma.decompress((OLDER / f"{name}.xz").read_bytes()))
    return path


@pytest.fixture(scope="module")
def made():
    """The script that made the files."""
    spec = importlib.util.spec_from_file_location("older_make", OLDER / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_logits(logits: torch.Tensor, name: str) -> None:
    wanted = torch.tensor(json.loads((OLDER / "logits.json").read_text())[name])
    got = logits[0, 0, ::8, ::8].flatten()
    assert wanted.std() > 1e-3
    assert (got - wanted).abs().max() < 1e-4 * max(1, wanted.abs().max())


@torch.no_grad()
def test_checkpoints_and_features(ritm, made, tmp_path):
    image, crop, rois, points = made.inputs()
    stock = fdrn_adapter.load(unpacked("stock.pth", tmp_path))
    check_logits(stock(crop, points)["instances"], "stock")
    model = fdrn_adapter.load(unpacked("fdrn.pth", tmp_path))
    features = fdrn_adapter.ImageFeatures.load(unpacked("features.pt", tmp_path))
    with model.recycling(features, rois):
        check_logits(model(crop, points)["instances"], "recycled")
    now = model.encode_image(image)
    assert now.maps.keys() == features.maps.keys() and now.grids == features.grids
    for name, value in now.maps.items():
        assert torch.allclose(value, features.maps[name], atol=1e-5), name


def test_a_training_goes_on_from_its_state(ritm, tmp_path):
    cfg = config(tmp_path)
    path = unpacked("training_state.pth", cfg.CHECKPOINTS_PATH)
    stored = state.read(path)
    data = training.DynamicScaleDataset(
        stock_dataset(write_folder(tmp_path / "data")), (64, 64), (96, 96)
    )
    model = fdrn_model(**EARLIER_MODULES)
    trainer = make_trainer(model, cfg, data, ema_decay=0.9)
    assert trainer.cfg.start_epoch == stored["epoch"] + 1 == 1
    assert all(torch.equal(value, model.state_dict()[k]) for k, value in stored["weights"].items())
    averages = [entry["exp_avg"] for entry in trainer.optim.state.values()]
    assert len(averages) > 100 and all(average.abs().sum() > 0 for average in averages)
    assert trainer.average.steps == stored["average"]["steps"] > 0
    trainer.training(1)


def test_a_benchmark_goes_on_from_its_journal(tmp_path):
    grabcut(tmp_path / "GrabCut", 2)
    given = {"models": "graphcut", "datasets": f"GrabCut={tmp_path / 'GrabCut'}", "clicks": 2,
             "threads": 1, "engine": "eager", "out": tmp_path / "out"}
    (tmp_path / "out").mkdir()
    journal = shutil.copy(OLDER / "journal.jsonl", tmp_path / "out")
    lines = Path(journal).read_text().splitlines()
    (found,) = run(**given, resume=True)["runs"]
    assert Path(journal).read_text().splitlines() == lines  # nothing was done again
    samples = [entry for line in lines if (entry := json.loads(line))["kind"] == "sample"]
    assert found["n_samples"] == len(samples) == 2
    Path(journal).write_text("\n".join(lines[:2]) + "\n")  # and from the middle of it
    (again,) = run(**given, resume=True)["runs"]
    assert len(Path(journal).read_text().splitlines()) == len(lines)
    assert [s["ious"] for s in again["samples"]] == [s["ious"] for s in found["samples"]]
