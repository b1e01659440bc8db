"""--codebase and --model are looked for before torch is imported or anything is read or written."""

import socket
import subprocess
import sys

import pytest

from fdrn_adapter import cli
from fdrn_adapter.training import state
from fdrn_adapter.zoo import entries

# A command line without them; OUT stands for where results would go.
COMMANDS = {
    "annotate": ["OUT", "--no-browser", "--port", "0"],
    "benchmark": ["--datasets", "GrabCut=none", "--out", "OUT"],
    "complexity": [],
    "demo": ["--out", "OUT"],
    "encode": ["--data", "none", "--out", "OUT"],
    "export": ["--out", "OUT"],
    "gallery": ["--out", "OUT/gallery.png"],
    "labelme": [],
    "profile": ["--costs", "--out", "OUT"],
    "segment": ["none.jpg", "--click", "1,1", "--out", "OUT/mask.png"],
    "serve": ["--port", "0"],
    "train": ["--data", "none", "--out", "OUT"],
    "wrap": [],
}
SEVERAL = ("benchmark", "complexity", "demo", "gallery", "profile")  # have --models
ZOO_ONLY = ("complexity", "demo")
ENCODERS = ("encode", "train", "wrap")  # have --encoder
MODEL, FILE = "lite-fdrn-context", "net.pth"


def run(tmp_path, command, *words):
    code = (
        "import sys\nfrom fdrn_adapter import cli\nrc = cli.main(sys.argv[1:])\n"
        "print(rc, 'torch' in sys.modules)"
    )
    (tmp_path / "ritm" / "isegm" / "model").mkdir(parents=True)
    (tmp_path / FILE).touch()
    before = sorted(tmp_path.iterdir())
    ran = subprocess.run([sys.executable, "-c", code, command, *words, *COMMANDS[command]],
                         capture_output=True, text=True, check=True, cwd=tmp_path)
    assert ran.stdout.split() == ["2", "False"], ran.stderr
    assert sorted(tmp_path.iterdir()) == before, "something was written"
    assert len(ran.stderr.splitlines()) == 1
    return ran.stderr


def model_of(command, name):
    if command == "wrap":
        return [name, "OUT.pth"]
    return ["--models" if command in SEVERAL else "--model", name]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ("encode", "gallery")])
def test_no_checkout(command, tmp_path):
    said = run(tmp_path, command, *model_of(command, MODEL), "--codebase", "ritmm")
    assert "ritmm is not a folder. Did you mean 'ritm'? Pass the root of a RITM" in said


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in ZOO_ONLY])
def test_no_checkpoint(command, tmp_path):
    said = run(tmp_path, command, *model_of(command, "nte.pth"))
    assert "here is no" in said and f"Did you mean '{FILE}'?" in said


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "wrap"])
def test_no_network_of_that_name(command, tmp_path):
    said = run(tmp_path, command, *model_of(command, "lite-fdrn-contxt"))
    assert "There is no" in said and "'lite-fdrn-contxt'" in said
    assert f"Did you mean '{MODEL}'" in said


def test_all_commands_with_an_encoder_are_tried(capsys):
    found = []
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        found += [command] * ("--encoder " in capsys.readouterr().out)
    assert sorted(found) == list(ENCODERS)


@pytest.mark.parametrize("command", ENCODERS)
def test_no_file_of_the_encoder(command, tmp_path):
    (tmp_path / "tiny_sam.onnx").touch()
    words = [FILE, "OUT.pth"] if command == "wrap" else []
    said = run(tmp_path, command, *words, "--encoder", "onnx:tinny_sam.onnx")
    assert "there is no file 'tinny_sam.onnx'. Did you mean 'tiny_sam.onnx'?" in said


@pytest.mark.parametrize("command", [*ENCODERS, "segment", "benchmark", "demo", "complexity"])
def test_no_file_of_the_encoders_variable(command, tmp_path, monkeypatch):
    monkeypatch.setenv("FDRN_SAM_ENCODER", "tinny_sam.onnx")
    (tmp_path / "tiny_sam.onnx").touch()
    words = {"wrap": [FILE, "OUT.pth"]}.get(command, [])
    words += ["--encoder", "onnx:"] if command in ENCODERS else model_of(command, "sam-hrnet18s")
    said = run(tmp_path, command, *words)
    assert "FDRN_SAM_ENCODER=tinny_sam.onnx: there is no such file. Did you mean 'tiny_s" in said


@pytest.mark.parametrize("command", ["encode", "train"])
def test_images_are_encoded_by_a_file_that_is_named(command, tmp_path, monkeypatch):
    monkeypatch.delenv("FDRN_SAM_ENCODER", raising=False)
    said = run(tmp_path, command, "--encoder", "onnx:")
    assert "the variable FDRN_SAM_ENCODER, which is not set" in said


def test_no_weights_for_the_encoder(tmp_path):
    said = run(tmp_path, "wrap", FILE, "OUT.pth", "--encoder-weights", "nett.pth")
    assert "there is no file nett.pth. Did you mean 'net.pth'?" in said


@pytest.mark.parametrize(("models", "what"), [
    ("sam:enc.onnx,decc.onnx", "file enc.onnx"), ("s=sam:encoder.onnx,decc.onnx", "file decc.onnx"),
    ("onnx:exportt", "folder exportt. Did you mean 'export'?"), ("brs:nett.pth", "checkpoint nett"),
])
def test_no_file_of_a_method(models, what, tmp_path):
    (tmp_path / "encoder.onnx").touch()
    (tmp_path / "export").mkdir()
    assert f"--models: there is no {what}" in run(tmp_path, "benchmark", "--models", models)


def test_a_training_that_was_stopped_is_named(tmp_path, capsys):
    assert entries.STOPPED == state.NAME
    (tmp_path / entries.STOPPED).write_bytes(b"")
    assert cli.main(["segment", "x.png", "--model", str(tmp_path / "model.pth"), "--click", "1,1",
                     "--out", str(tmp_path / "x.png")]) == 2
    said = capsys.readouterr().err
    assert "is not finished" in said and "--resume" in said
    (tmp_path / "model.pth").write_bytes(b"")  # a finished one keeps its state, too
    assert cli.main(["segment", "x.png", "--model", str(tmp_path / "modl.pth"), "--click", "1,1",
                     "--out", str(tmp_path / "x.png")]) == 2
    said = capsys.readouterr().err
    assert "is not finished" not in said and f"Did you mean '{tmp_path / 'model.pth'}'?" in said


def test_annotate_takes_no_misspelt_folder_for_a_new_one(tmp_path, capsys):
    pytest.importorskip("uvicorn")
    (tmp_path / "photographs").mkdir()
    assert cli.main(["annotate", str(tmp_path / "photografs"), "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert f"Did you mean '{tmp_path / 'photographs'}'?" in said and "mkdir" in said
    assert cli.main(["annotate", str(tmp_path / "elsewhere"), "--port", "0"]) == 2
    assert f"There is no folder {tmp_path / 'elsewhere'}. For a new one" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["photographs"]
    (tmp_path / "photo.jpg").touch()
    assert cli.main(["annotate", str(tmp_path / "photo.jpg"), "--port", "0"]) == 2
    assert "photo.jpg is a file; pass the folder" in capsys.readouterr().err


def test_a_port_in_use_is_told_before_a_folder_is_made(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli.main(["annotate", "--port", port]) == 2
    assert port in capsys.readouterr().err and not list(tmp_path.iterdir())
