"""`fdrn run`: a missing checkpoint, a missing display and settings that nobody reads."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support.codebase_fixtures import checkout, forked, write_files
from support.source import REPOSITORY

from fdrn_adapter import launcher, launcher_checks, launcher_settings

SCRIPTS = {"evaluate.py": "cfg.INTERACTIVE_MODELS_PATH", "focal.py": "args.model_dir"}
SCRIPT = """
import argparse
from isegm.inference import utils
parser = argparse.ArgumentParser()
parser.add_argument('--config-path', type=str, default='./config.yml')
# checkpoint = utils.find_checkpoint(cfg.OTHER_PATH, args.checkpoint)
checkpoint = utils.find_checkpoint(PLACE, args.checkpoint)
"""
# The stock function, which the check must agree with.
FIND = """
from pathlib import Path
def find_checkpoint(weights_folder, checkpoint_name):
    weights_folder = Path(weights_folder)
    if ':' in checkpoint_name:
        model_name, checkpoint_name = checkpoint_name.split(':')
        models_candidates = [x for x in weights_folder.glob(f'{model_name}*') if x.is_dir()]
        assert len(models_candidates) == 1
        model_folder = models_candidates[0]
    else:
        model_folder = weights_folder
    if checkpoint_name.endswith('.pth'):
        if Path(checkpoint_name).exists():
            checkpoint_path = checkpoint_name
        else:
            checkpoint_path = weights_folder / checkpoint_name
    else:
        model_checkpoints = list(model_folder.rglob(f'{checkpoint_name}*.pth'))
        assert len(model_checkpoints) == 1
        checkpoint_path = model_checkpoints[0]
    return str(checkpoint_path)
"""
CONFIG = "INTERACTIVE_MODELS_PATH: ./weights\n"


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "checkout"
    write_files(root, {"isegm/model/__init__.py": "", "isegm/inference/utils.py": FIND})
    for name, place in SCRIPTS.items():
        (root / name).write_text(SCRIPT.replace("PLACE", place))
    (root / "config.yml").write_text(CONFIG)
    for name in ("h18.pth", "h32.pth", "focal/last.pth", "focal/001.pth"):
        (root / "weights" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "weights" / name).touch()
    return root


@pytest.fixture
def here(tmp_path):
    here = tmp_path / "here"
    (here / "w").mkdir(parents=True)
    (here / "w" / "net.pth").touch()
    return here


def message(root, here, name, script="evaluate.py", more=(), settings=None):
    """What the check says; None where it lets the script start."""
    given = launcher.script_arguments(
        root / script, [f"--checkpoint={name}", *more], False, here, root)
    try:
        launcher_checks.check_checkpoint(root / script, given, root, settings or {}, here)
    except ValueError as error:
        return str(error)
    return None


NAMES = ("h18.pth", "h18", "h3", "h", "w/net.pth", "w/net", "wx/net.pth", "last", "focal/last",
         "focal:last", "fo:0", "fox:last", "focal:lost", "focal:last.pth", "focal:h18.pth", "nte",
         "weights/h18.pth", "focal/001.pth", ":last")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("script", SCRIPTS)
def test_it_refuses_what_the_stock_code_would_not_find_and_nothing_else(
    root, here, monkeypatch, name, script
):
    names: dict = {}
    exec(FIND, names)
    monkeypatch.chdir(root)
    asked = launcher.absolute_argument(name, here)
    try:
        found = Path(names["find_checkpoint"]("weights", asked)).exists()
    except AssertionError:
        found = False
    said = message(root, here, name, script, ["--model_dir", "weights"])
    assert (said is None) == found, said
    assert said is None or said.startswith("--checkpoint ")


@pytest.mark.parametrize(("name", "meant"), [
    ("w/nte.pth", "'w/net.pth'"), ("h19.pth", "'h18.pth'"), ("h", "'h18.pth' or 'h32.pth'"),
    ("w/net", "'w/net.pth'"), ("fcal:last", "'focal'"), ("focal/lst.pth", "'focal/last.pth'"),
])
def test_close_names_are_said(root, here, name, meant):
    assert f"Did you mean {meant}" in message(root, here, name)


def test_the_folder_is_the_one_of_this_run(root, here):
    assert message(root, here, "net") is not None
    own = {"INTERACTIVE_MODELS_PATH": str(here / "w")}
    assert message(root, here, "net", settings=own) is None
    (here / "mine.yml").write_text(f"INTERACTIVE_MODELS_PATH: {here / 'w'}\n")
    assert message(root, here, "net", more=["--config-path", "mine.yml"]) is None
    assert message(root, here, "net", "focal.py", [f"--model_dir={here / 'w'}"]) is None
    (root / "config.yml").write_text("other: 1\n")  # nobody knows where it looks
    assert message(root, here, "net") is None


def test_scripts_that_look_elsewhere_are_let_through(root, here):
    (root / "own.py").write_text("checkpoint = mine(args.checkpoint)\n")
    assert message(root, here, "none.pth", "own.py") is None


def run(root, here, *arguments):
    args = launcher.parse(["--codebase", str(root), *arguments])
    return forked(lambda: launcher.main(args), cwd=here)


def test_the_script_does_not_start(root, here):
    (root / "evaluate.py").write_text("print('STARTED')\n" + SCRIPT.replace(
        "PLACE", SCRIPTS["evaluate.py"]))
    process = run(root, here, "evaluate.py", "--checkpoint", "w/nte.pth")
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == (
        "fdrn run: --checkpoint w/nte.pth: there is no such file, neither here nor in "
        f"{root / 'weights'} (INTERACTIVE_MODELS_PATH). Did you mean 'w/net.pth'? Pass the path of "
        "the file.\n"
    )


# -- display -----------------------------------------------------------------------------------


def test_a_window_needs_a_display(root, here, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    (root / "demo.py").write_text("import tkinter as tk\nprint('STARTED')\n")
    process = run(root, here, "demo.py")
    assert (process.returncode, process.stdout) == (2, "")
    assert all(word in process.stderr for word in ("ssh -X", "xvfb-run", "fdrn annotate"))
    assert len(process.stderr.splitlines()) == 1
    check = launcher_checks.check_display
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        check(root / "demo.py", {variable: ":0"})
    check(root / "evaluate.py", {})  # opens none
    monkeypatch.setattr("sys.platform", "darwin")
    check(root / "demo.py", {})


# -- settings ----------------------------------------------------------------------------------

STOCK_KEYS = (
    "INTERACTIVE_MODELS_PATH EXPS_PATH GRABCUT_PATH BERKELEY_PATH DAVIS_PATH COCO_MVAL_PATH "
    "SBD_PATH COCO_PATH LVIS_PATH LVIS_v1_PATH"
)


@pytest.fixture
def configured(root):
    """The toy with the keys of the stock config.yml that the documentation sets."""
    keys = "".join(f"{key}: x\n" for key in STOCK_KEYS.split())
    (root / "config.yml").write_text(keys + "IMAGENET_PRETRAINED_MODELS:\n  HRNETV2_W18: x\n")
    for name in ("train.py", "scripts/evaluate_model.py"):
        write_files(root, {name: "from isegm.inference import utils\n"})
    return root


def unread(caplog, root, settings, script="train.py", *arguments):
    caplog.clear()
    given = launcher.script_arguments(root / script, list(arguments), False, REPOSITORY, root)
    launcher_settings.warn_of_unread(settings, root / script, given, root)
    return [record.getMessage() for record in caplog.records]


def test_a_key_that_nobody_reads_is_told_with_close_ones(configured, caplog):
    experiment = "experiments/cocolvis/h2_hrnet18s.py"
    (said,) = unread(caplog, configured, ["EPOCH=1", "EPOCHS=1"], "train.py", experiment)
    assert said.startswith("--set EPOCH: nothing reads it") and "h2_hrnet18s.py" in said
    assert "Did you mean 'EPOCHS' or 'EPOCH_LEN'?" in said
    (said,) = unread(caplog, configured, ["GRABCUT_PTH=x"])
    assert "Did you mean 'GRABCUT_PATH'" in said
    section = "IMAGENET_PRETRAINED_MODELS"
    (said,) = unread(caplog, configured, [f"{section}.HRNETV2_W81=x", f"{section}.HRNETV2_W18=x"])
    assert f"Did you mean '{section}.HRNETV2_W18'" in said
    assert unread(caplog, configured, ["EPOCHS=1"]), "only the experiments read it"
    assert unread(caplog, configured, ["OWN_PATH=x"], "train.py", experiment)


def test_keys_of_an_experiment_and_of_what_it_imports(configured, caplog, tmp_path):
    (tmp_path / "mine.py").write_text("import common\ndef main(cfg):\n    cfg.get('MY_PATH')\n")
    (tmp_path / "common.py").write_text("def get(cfg):\n    return cfg.MY_RATE\n")
    given = ["MY_PATH=x", "MY_RATE=1", "MY_RAT=1"]
    (said,) = unread(caplog, configured, given, "train.py", str(tmp_path / "mine.py"))
    assert said.startswith("--set MY_RAT:") and "'MY_RATE'" in said


def test_it_is_a_warning_and_the_script_runs(root, here):
    (root / "say.py").write_text("print('STARTED')\n")
    process = run(root, here, "--cpu", "--set", "EXPS_PTH=x", "say.py")
    assert process.returncode == 0 and "STARTED" in process.stdout
    assert "fdrn run: --set EXPS_PTH: nothing reads it" in process.stderr


def documented():
    """(where, keys, arguments) of each `fdrn run` in documentation and experiments, and of prose.
    """
    files = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")),
             *sorted((REPOSITORY / "experiments").rglob("*.py"))]
    for file in files:
        text = re.sub(r"\\\n\s*", " ", file.read_text())
        where = str(file.relative_to(REPOSITORY))
        for line in re.findall(r"^\s*(fdrn run .*)$", text, re.M):
            words = shlex.split(line, comments=True)
            keys = [w for before, w in zip(words, words[1:], strict=False) if before == "--set"]
            yield where, keys, [w for w in words if w.endswith(".py")]
        if file.suffix == ".py":  # "Also --set ..."
            keys = re.findall(r"--set\s+(\w[\w.]*=\w+)|\b(\w+_PATH=DIR)", text)
            keys = [one or other for one, other in keys]
            yield where, keys, ["train.py", where]
    more = ["FOLDER", "EPOCHS", "EPOCH_LEN", "LR", "CROP", "GLOBAL", "PRETRAINED"]
    assert "EPOCHS,\nEPOCH_LEN, LR, CROP, GLOBAL and PRETRAINED=none" in (
        REPOSITORY / "docs" / "checkouts.md").read_text()
    yield "docs/checkouts.md, prose", more, ["train.py", "experiments/cocolvis/h2_hrnet18s.py"]


@pytest.mark.parametrize("kind", ["toy", "RITM", "CLICKSEG"])
def test_no_documented_key_warns(kind, configured, caplog):
    root = configured if kind == "toy" else checkout(f"FDRN_{kind}_ROOT")
    found, count = {}, 0
    for where, keys, scripts in documented():
        if not keys or not (root / scripts[0]).is_file():
            continue
        count += len(keys)
        if said := unread(caplog, root, keys, *scripts):
            found[where] = said
    assert found == {} and count > 60
