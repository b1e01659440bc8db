"""A network as a folder: config.json and model.safetensors."""

import json
import shutil
import sys
import types

import pytest
import torch
from support.networks import build_host, make_input, make_points

import fdrn_adapter
from fdrn_adapter.model import pretrained_folder
from fdrn_adapter.zoo.named import open_network

pytest.importorskip("safetensors")
pytestmark = pytest.mark.usefixtures("ritm")
POINTS = make_points([[30, 40, 0], [12, 60, 2]], [[10, 80, 1]])
USE = {"crop": 96, "threshold": 0.4, "expansion": 1.2, "first_twice": True, "honour_clicks": True}


@torch.no_grad()
def logits(net):
    return net(make_input(), POINTS)["instances"]


@pytest.fixture
def model():
    net = fdrn_adapter.wrap(
        build_host("tiny"), encoder="hrnet18s", init="paper", inference=USE
    ).eval()
    with torch.no_grad():
        for p in net.parameters():  # away from every initial value
            p.add_(0.01 * torch.randn_like(p))
    return net


@pytest.fixture
def folder(model, tmp_path):
    fdrn_adapter.save_pretrained(model, tmp_path / "net")
    return tmp_path / "net"


def test_round_trip_with_how_it_is_used(model, folder):
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    loaded = fdrn_adapter.from_pretrained(folder)
    assert torch.equal(logits(loaded), logits(model)) and not loaded.training
    assert loaded.inference == model.inference == fdrn_adapter.Inference(**USE)
    assert loaded._settings == model._settings
    assert torch.equal(logits(open_network(str(folder)).model), logits(model))


def test_stock_networks_and_half_precision(tmp_path):
    host = build_host("tiny")
    fdrn_adapter.save_pretrained(host, tmp_path / "a")
    assert torch.equal(logits(fdrn_adapter.from_pretrained(str(tmp_path / "a"))), logits(host))
    fdrn_adapter.save_pretrained(host, tmp_path / "b", half=True)
    sizes = [(tmp_path / d / "model.safetensors").stat().st_size for d in "ab"]
    assert sizes[1] < 0.6 * sizes[0]
    difference = logits(fdrn_adapter.from_pretrained(tmp_path / "b")) - logits(host)
    assert 0 < difference.abs().max() < 0.1


def test_files_of_two_models_are_no_model(model, folder, tmp_path):
    fdrn_adapter.save_pretrained(build_host("tiny", seed=1), tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(fdrn_adapter.CheckpointError, match="does not belong to the config.json"):
        fdrn_adapter.from_pretrained(folder)


def test_loading_is_strict(folder):
    from safetensors.torch import load_file, save_file

    from fdrn_adapter.output_folders import checksum

    weights = load_file(folder / "model.safetensors")
    gone = sorted(weights)[0]
    del weights[gone]
    save_file(weights, folder / "model.safetensors")
    about = json.loads((folder / "config.json").read_text())
    about["weights"]["sha256"] = checksum(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(fdrn_adapter.CheckpointError, match=f"missing in the file: {gone}"):
        fdrn_adapter.from_pretrained(folder)


@pytest.mark.parametrize(("change", "message"), [
    (lambda a: a["config"].update({"class": "os._exit"}), "os._exit"),
    (lambda a: a["config"]["params"]["host"]["value"].update({"class": "ctypes.string_at"}),
     "ctypes.string_at"),
    (lambda a: a.update(format="other"), "not of fdrn_adapter"),
    (lambda a: a.update(format_version=9), "update fdrn_adapter"),
    (lambda a: a.pop("weights"), "lacks"),
    (lambda a: a.update(config=[1]), "lacks"),
])
def test_configs_of_strangers(folder, change, message):
    about = json.loads((folder / "config.json").read_text())
    change(about)
    (folder / "config.json").write_text(json.dumps(about))
    with pytest.raises(fdrn_adapter.CheckpointError, match=message):
        fdrn_adapter.from_pretrained(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_damaged_configs(folder, content):
    (folder / "config.json").write_bytes(content)
    with pytest.raises(fdrn_adapter.CheckpointError, match="config.json"):
        fdrn_adapter.from_pretrained(folder)


def test_a_write_that_fails_leaves_the_old_network(model, folder, monkeypatch):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    monkeypatch.setattr(pretrained_folder, "checksum", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fdrn_adapter.save_pretrained(build_host("tiny"), folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_hub_is_asked_for_two_files(model, folder, monkeypatch):
    asked = []

    def snapshot_download(name, revision, allow_patterns):
        asked.append((name, revision, allow_patterns))
        return str(folder)

    hub = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    loaded = fdrn_adapter.from_pretrained("somebody/net", revision="v1")
    assert asked == [("somebody/net", "v1", ["config.json", "model.safetensors"])]
    assert torch.equal(logits(loaded), logits(model))


def test_what_is_neither_a_folder_nor_on_a_hub(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="no OWNER/NAME of a hub"):
        fdrn_adapter.from_pretrained(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(fdrn_adapter.CheckpointError, match="not a folder of save_pretrained"):
        fdrn_adapter.from_pretrained(tmp_path / "empty")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'fdrn_adapter\[hub\]'"):
        fdrn_adapter.from_pretrained("somebody/net")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ValueError, match=r"pip install 'fdrn_adapter\[hub\]'"):
        fdrn_adapter.save_pretrained(build_host("tiny"), tmp_path / "net")
