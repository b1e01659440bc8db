"""The zoo's figures against the paper's own sums, building by name, and weights."""

import hashlib
import os
import shutil
import subprocess
import sys

import pytest
import torch
import yaml

import fdrn_adapter
from fdrn_adapter import zoo
from fdrn_adapter.commands import zoo as zoo_command
from fdrn_adapter.timing import speed
from fdrn_adapter.zoo import building, entries

# Whole models in the paper's Table 1: an independent place for F1 + F2 of Table 2.
TABLE_1_PARAMS_M = {
    "RITM-hrnet18": 10.03, "RITM-hrnet32": 30.95, "H1-hrnet18": 12.23, "H2-hrnet18s": 7.90,
    "H2-hrnet18": 13.71, "Focal-hrnet18s": 4.23, "Focal-hrnet32": 30.98,
    "Focal-segformerB0": 3.74, "Focal-segformerB3": 45.63, "H2-hrnet18s-star": 7.91,
    "B0-segformerB0-star": 7.76, "B1-segformerB0-star": 13.23, "B0-segformerB3-star": 52.92,
}


def test_entries_are_the_rows_of_table_2():
    assert set(zoo.paper_names()) == set(TABLE_1_PARAMS_M)
    for name, total in TABLE_1_PARAMS_M.items():
        entry = zoo.info(name)
        encoder = entry.paper_encoder.params_m if entry.paper_encoder else 0
        assert entry.paper_network.params_m + encoder == pytest.approx(total)
        assert entry.is_fdrn == (entry.paper_encoder is not None) == name.startswith(
            ("H", "B")
        )
        assert entry.title.endswith("*") == name.endswith("-star")
        sides = {("ritm", True): 288, ("ritm", False): 400}
        assert entry.crop_size == (sides.get((entry.code_base, entry.is_fdrn), 256),) * 2


def paper_total_ms(name: str, clicks: float) -> float:
    entry = zoo.info(name)
    encode = entry.paper_encoder.cpu_ms if entry.paper_encoder else 0
    return speed.total_ms(encode, entry.paper_network.cpu_ms, clicks)


def test_times_give_the_totals_of_the_papers_text():
    assert paper_total_ms("H2-hrnet18", 20) == 4991
    assert paper_total_ms("RITM-hrnet32", 20) == 21240
    noc = zoo.info("H2-hrnet18").paper_noc["COCO+LVIS"]["sbd_90"]
    assert paper_total_ms("H2-hrnet18", noc) == pytest.approx(1635, abs=1)
    noc = zoo.info("RITM-hrnet32").paper_noc["COCO+LVIS"]["sbd_90"]
    assert paper_total_ms("RITM-hrnet32", noc) == pytest.approx(6064, abs=1)
    noc = zoo.info("Focal-hrnet32").paper_noc["COCO+LVIS"]["sbd_90"]
    assert paper_total_ms("Focal-hrnet32", noc) == pytest.approx(1875, abs=1)
    noc = zoo.info("H2-hrnet18s-star").paper_noc["COCO+LVIS"]["sbd_90"]
    assert paper_total_ms("H2-hrnet18s-star", noc) == pytest.approx(1278, abs=1)


def test_unknown_name_lists_the_close_ones_first():
    with pytest.raises(ValueError, match="Did you mean 'H2-hrnet18'") as error:
        zoo.info("h2_hrnet18")
    assert all(name in str(error.value) for name in zoo.names())


def test_build_is_seeded_and_leaves_the_generator_alone(ritm):
    state = torch.get_rng_state()
    first, again, other = (zoo.build("H2-hrnet18s", seed=s) for s in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    name = "image_encoder.key_view.weight"
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", ["H1-hrnet18", "H2-hrnet18s", "RITM-hrnet18"])
def test_build_follows_the_yaml(ritm, name):
    entry = zoo.info(name)
    model = zoo.build(name, seed=0)
    assert not model.training
    host = model
    if entry.is_fdrn:
        assert isinstance(model, fdrn_adapter.FDRNModel)
        assert model.init == "paper"
        values = {key: param["value"] for key, param in model._config["params"].items()}
        assert {key: values[key] for key in entry.fdrn} == entry.fdrn
        host = model.host
    given = {key: host._config["params"][key]["value"] for key in entry.host_params}
    assert given == entry.host_params
    assert zoo.build(name, init="identity", seed=0) is not None
    if entry.is_fdrn:
        with pytest.raises(ValueError, match="init should be one of"):
            zoo.build(name, init="zero")


def test_without_a_code_base_both_remedies_are_named(monkeypatch):
    monkeypatch.setattr(building, "_importable_root", lambda package: None)
    with pytest.raises(zoo.NoCodeBaseError) as error:
        zoo.build("H2-hrnet18")
    assert "pip install fdrn_adapter[ritm]" in str(error.value)
    assert "x86-64 Linux only" in str(error.value)
    assert "--codebase DIR" in str(error.value)


@pytest.mark.skipif("FDRN_RITM_ROOT" not in os.environ, reason="FDRN_RITM_ROOT is not set")
def test_build_from_a_checkout():
    code = (
        "import os; from fdrn_adapter import zoo;"
        "model = zoo.build('H2-hrnet18s', codebase=os.environ['FDRN_RITM_ROOT'], seed=0);"
        "print(type(model.host).__module__)"
    )  # a process of its own: a code base stays active
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["isegm.model.is_hrnet_model"]


@pytest.mark.skipif("FDRN_CLICKSEG_ROOT" not in os.environ, reason="FDRN_CLICKSEG_ROOT is not set")
def test_a_checkout_of_another_kind_is_refused_before_it_is_activated():
    path = list(sys.path)
    with pytest.raises(zoo.NoCodeBaseError, match="is built from RITM"):
        zoo.build("H2-hrnet18s", codebase=os.environ["FDRN_CLICKSEG_ROOT"])
    assert sys.path == path


def test_a_folder_without_code_base_is_refused(tmp_path):
    with pytest.raises(ValueError, match="isegm"):
        zoo.build("H2-hrnet18s", codebase=tmp_path)


@pytest.mark.parametrize("name", sorted(TABLE_1_PARAMS_M))
def test_load_without_weights_says_so(name):
    if zoo.info(name).weights is not None:
        pytest.skip("trained by now")
    with pytest.raises(zoo.WeightsNotAvailableError, match="no trained weights"):
        zoo.load(name)


def test_load_reads_the_recorded_file_and_no_other(ritm, monkeypatch, tmp_path):
    name = "H2-hrnet18s"
    model = zoo.build(name, seed=5)
    weights = tmp_path / f"{name}.pth"
    fdrn_adapter.save(model, weights)
    entry = yaml.safe_load((zoo.folder() / f"{name}.yaml").read_text())
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    entry["weights"] = {"file": weights.name, "sha256": digest, "training": "none"}
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(entry))
    monkeypatch.setattr(entries, "folder", lambda: tmp_path)

    loaded = zoo.load(name).state_dict()
    assert loaded.keys() == model.state_dict().keys()
    assert all(torch.equal(loaded[key], value) for key, value in model.state_dict().items())

    with weights.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(zoo.WeightsNotAvailableError, match="sha256"):
        zoo.load(name)
    shutil.move(weights, tmp_path / "elsewhere")
    with pytest.raises(zoo.WeightsNotAvailableError, match="does not exist"):
        zoo.load(name)


def test_zoo_prints_every_entry_with_its_figures(capsys):
    assert zoo_command.main(None) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in zoo.paper_names():
        (line,) = [text for text in lines if text.split(" ")[0] == name]
        assert f"{zoo.info(name).paper_network.params_m:g}" in line
        assert f"{zoo.info(name).paper_network.cpu_ms:g}" in line
    for name in set(zoo.names()) - set(zoo.paper_names()):
        assert any(text.startswith(name) for text in lines)
