"""--codebase and --model are looked for before torch is imported or anything is read or written."""

import subprocess
import sys

import pytest

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
