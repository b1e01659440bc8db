"""`fdrn encode` and `fdrn train`, end to end on generated images with light networks."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from support.embedding_networks import write_embedding_fdrn
from support.networks import build_host
from support.training_fixtures import write_folder

import fdrn_adapter
from fdrn_adapter import cli
from fdrn_adapter.training.batched import resumable
from fdrn_adapter.training.batched.plan import Plan, parse_sizes

pytestmark = pytest.mark.usefixtures("ritm")
SMALL = ["--sizes", "64", "--batch", "4", "--log-every", "0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "own", count=20)


@pytest.fixture(scope="module")
def fdrn(tmp_path_factory):
    """A light FDRN on embeddings of a small graph, as a checkpoint; the variable names the graph.
    """
    folder = tmp_path_factory.mktemp("fdrn")
    file = write_embedding_fdrn(folder, "start.pth")
    return folder / "start.pth", file


@pytest.fixture
def start(fdrn, monkeypatch):
    monkeypatch.setenv("FDRN_SAM_ENCODER", str(fdrn[1]))
    return fdrn[0]


def test_from_a_folder_to_a_session(start, data, tmp_path, capsys):
    features, out = tmp_path / "features", tmp_path / "run"
    words = ["encode", "--model", str(start), "--data", str(data), "--out", str(features)]
    assert cli.main([*words, "--processes", "1", "--check"]) == 0
    said = capsys.readouterr().out
    assert "20 of 20 images are in" in said and "all checksums are right" in said
    words = ["train", "--model", str(start), "--data", str(data), "--features", str(features),
             "--samples", "11", *SMALL, "--out", str(out)]
    assert cli.main([*words, "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "20 pictures of 1 data set(s)" in plan and "11 in 3 steps" in plan
    assert "time:          about 10 seconds of steps on two cores of an AMD EPYC" in plan
    assert "embeddings kept" in plan and not out.exists()
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "20 pictures with 40 objects" in said and "samples/s" in said and "encoded" not in said
    assert ", 0 s left" in said  # a last step goes beyond 11
    record = json.loads((out / "training.json").read_text())
    assert record["samples"] == 12 and record["command"].startswith("fdrn train --model")
    model = fdrn_adapter.load(out / "model.pth")
    assert model.inference.crop == 64 and model.inference.first_twice
    before = fdrn_adapter.load(start).state_dict()
    assert any(not torch.equal(before[k], v) for k, v in model.state_dict().items()
               if k.startswith("image_encoder.views"))
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items()
               if k.startswith("image_encoder.backbone"))
    session = fdrn_adapter.InteractiveSession(model)
    session.set_image(np.random.default_rng(0).integers(0, 255, (120, 160, 3)).astype(np.uint8))
    mask = session.add_click(60, 50)
    assert mask.shape == (120, 160)
    assert cli.main(words) == 2  # it would overwrite
    assert "holds a training state" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_and_resumed_is_the_same(start, data, tmp_path):
    """kill -9 in the midst of training; the rest is made from the last state."""
    common = ["train", "--model", str(start), "--data", str(data), "--samples", "16", *SMALL,
              "--features", str(tmp_path / "features"), "--save-every", "0"]
    cli.main(["encode", "--model", str(start), "--data", str(data), "--processes", "1",
              "--out", str(tmp_path / "features")])
    assert cli.main([*common, "--out", str(tmp_path / "whole")]) == 0
    out = tmp_path / "parts"
    process = subprocess.Popen(
        [sys.executable, "-m", "fdrn_adapter", *common, "--out", str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL,
    )
    while process.poll() is None and not (out / resumable.NAME).is_file():
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert (out / resumable.NAME).is_file() and not (out / "model.pth").is_file()
    assert cli.main([*common, "--out", str(out), "--resume"]) == 0
    wanted, found = (torch.load(p / "model.pth")["state_dict"] for p in (tmp_path / "whole", out))
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)


def test_ctrl_c_writes_the_state(data, tmp_path):
    stock = tmp_path / "stock.pth"
    fdrn_adapter.save(build_host(), stock)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "fdrn_adapter", "train", "--model", str(stock), "--data",
               str(data), "--samples", "100000", *SMALL, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("step 2"):
            process.send_signal(signal.SIGINT)
            break
    rest, _ = process.communicate(timeout=3600)
    assert process.returncode == cli.INTERRUPTED and "go on with --resume" in rest
    assert resumable.read(out / resumable.NAME)["step"] >= 2
    assert not (out / "model.pth").exists()


@pytest.mark.slow
def test_two_processes_train_one_network(start, data, tmp_path):
    out = tmp_path / "run"
    words = ["--debug", "train", "--model", str(start), "--data", str(data), "--samples", "16",
             *SMALL, "--out", str(out), "--processes", "2"]
    assert cli.main(words) == 0
    record = json.loads((out / "training.json").read_text())
    assert record["processes"] == 2 and record["samples"] == 16 and record["steps"] == 4
    assert fdrn_adapter.load(out / "model.pth").inference.crop == 64


@pytest.mark.slow
def test_a_new_network_of_each_kind(data, tmp_path):
    pytest.importorskip("timm")
    for encoder in ("distilled_lite0", "hrnet18s", "none"):
        out = tmp_path / encoder
        words = ["--debug", "train", "--encoder", encoder, "--data", str(data), "--samples", "4",
                 *SMALL, "--out", str(out)]
        assert cli.main(words) == 0
        net = fdrn_adapter.load(out / "model.pth")
        assert getattr(net, "is_fdrn", False) == (encoder != "none")


def test_defaults_are_those_of_the_plan(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    plan, fine = Plan(), Plan.fine()
    for text in (f"default: {plan.samples}, of --model {fine.samples}",
                 f"default: {plan.lr:g}, of --model {fine.lr:g}",
                 f"first size (default: {plan.batch})", f"is loaded (default: {plan.crops})"):
        assert text in said
    assert parse_sizes("128:.6,192:.25,256:.15") == plan.sizes and "128:.6,192:.25,256" in said


@pytest.mark.parametrize("masks", ["masks", "instances"])
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_masks_of_other_names_are_told_before_the_plan(masks, dry, tmp_path, capsys):
    """The dry run used to pass, and the training to end with advice about --min-share."""
    data = write_folder(tmp_path / "own", count=2)
    (data / "instances").rename(data / masks)
    for path in sorted((data / masks).iterdir()):
        path.rename(path.with_name(f"mask_{path.name}"))
    out = tmp_path / "o"
    assert cli.main(["train", "--data", str(data), "--out", str(out), *dry]) == 2
    said = capsys.readouterr()
    assert f"None of the 2 images in {data / 'images'} has a mask in {data / masks}" in said.err
    assert "no mask is named like 0.png, and no image like mask_0.png" in said.err
    assert not said.out and not out.exists()


def test_pictures_that_cannot_be_used_are_no_matter_of_min_share(start, tmp_path, capsys):
    data = write_folder(tmp_path / "own", count=1)
    (data / "images" / "0.png").write_bytes(b"torn")
    words = ["train", "--model", str(start), "--data", str(data), *SMALL]
    assert cli.main([*words, "--out", str(tmp_path / "o")]) == 2
    said = capsys.readouterr()
    assert "left out: own/0: " in said.out and "None of the 1 pictures can be used" in said.err
    assert "--min-share" not in said.err


@pytest.mark.parametrize(("words", "message"), [
    (["--encoder", "hrnet18s", "--model", "H2-hrnet18s"], "leave out --encoder"),
    (["--host", "resnet"], "There is no host 'resnet'"),
    (["--device", "cuda"], "no GPU"),
    (["--sizes", "100"], "multiples of 32"),
    (["--features", "none", "--dry-run"], "There is no none/manifest.json"),
])
def test_what_cannot_be(words, message, data, tmp_path, capsys):
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert cli.main(["train", "--data", str(data), "--out", str(tmp_path / "o"), *words]) == 2
    assert message in capsys.readouterr().err
