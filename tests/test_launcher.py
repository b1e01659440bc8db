"""`fdrn run`: arguments, options, devices, child processes, exit codes; on a toy checkout."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.codebase_fixtures import environment, forked, hash_tree, python, write_files

from fdrn_adapter import launcher

TOY_CHECKOUT = {
    "isegm/model/is_hrnet_model.py": "",
    "isegm/utils/exp.py": """
        import yaml
        import numpy as np
        from easydict import EasyDict as edict
        def load_config_file(config_path, model_name=None, return_edict=False):
            with open(config_path) as f:
                cfg = yaml.safe_load(f)
            return edict(cfg) if return_edict else cfg
        def load_config(model_path):
            return edict()
        def number():
            return np.int(3)
    """,
}
SCRIPT = """
import argparse, json, os, sys
from isegm.utils.exp import load_config_file, number
parser = argparse.ArgumentParser()
parser.add_argument('rest', nargs='*')
parser.add_argument('--checkpoint')
parser.add_argument('--cpu', action='store_true')
args = parser.parse_args()
cfg = load_config_file('./config.yml', return_edict=True)
print('SEEN' + json.dumps(dict(cfg=cfg, cwd=os.getcwd(), name=__name__, number=number(),
                               argv0=sys.argv[0], **vars(args))))
"""


@pytest.fixture
def root(tmp_path):
    """A toy checkout with a script in scripts/ and a config.yml."""
    root = tmp_path / "checkout"
    write_files(root, TOY_CHECKOUT)
    (root / "scripts").mkdir()
    (root / "scripts" / "show.py").write_text(SCRIPT)
    (root / "config.yml").write_text("EXPS_PATH: ./experiments\nNETS:\n  B0: stock\n")
    return root


@pytest.fixture
def here(tmp_path):
    """Where the user stands: with a checkpoint, and a folder called like a data set."""
    here = tmp_path / "here"
    (here / "GrabCut").mkdir(parents=True)
    (here / "w").mkdir()
    (here / "w" / "net.pth").touch()
    return here


def run(root, here, *arguments: str):
    args = launcher.parse(["--codebase", str(root), *arguments])
    return forked(lambda: launcher.main(args), cwd=here)


def seen(process) -> dict:
    import json

    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.rpartition("SEEN")[2])


def test_script_runs_as_main_from_the_checkout_with_patches(root, here):
    before = hash_tree(root)
    plain = python("scripts/show.py", cwd=root, PYTHONPATH=str(root))
    assert "no attribute 'int'" in plain.stderr, "np.int works without the launcher"
    result = seen(run(root, here, "--cpu", "scripts/show.py", "GrabCut", "--checkpoint=w/net.pth"))
    assert (result["name"], result["cwd"], result["number"]) == ("__main__", str(root), 3)
    assert result["argv0"] == str(root / "scripts" / "show.py")
    assert result["checkpoint"] == str(here / "w" / "net.pth")
    assert result["rest"] == ["GrabCut"], "a bare word is a name, not a folder"
    assert result["cpu"] is True, "--cpu is passed on to scripts that take it"
    assert hash_tree(root) == before, "the checkout was written to"


def test_experiments_of_the_package_are_found_by_name(root, here):
    name = "experiments/small/lite_ritm.py"
    path = Path(seen(run(root, here, "--cpu", "scripts/show.py", name))["rest"][0])
    assert path.is_absolute() and path.is_file() and path.parts[-3:] == Path(name).parts
    assert "lite" in path.read_text()
    (here / "experiments" / "small").mkdir(parents=True)
    (here / name).write_text("mine")
    mine = seen(run(root, here, "--cpu", "scripts/show.py", name))["rest"][0]
    assert mine == str(here / name), "a file of the user's comes first"
    none = "experiments/small/none.py"
    assert seen(run(root, here, "--cpu", "scripts/show.py", none))["rest"] == [none]


def test_overrides_reach_the_stock_loader(root, here):
    (here / "mine.yml").write_text("EXPS_PATH: w\nGRABCUT_PATH: ./GrabCut\n")
    result = seen(run(root, here, "--cpu", "--config", "mine.yml", "--set", "NETS.B0=w/net.pth",
                      "--set", "EXPS_PATH=new/out", "scripts/show.py"))
    assert result["cfg"] == {
        "EXPS_PATH": str(here / "new" / "out"), "GRABCUT_PATH": str(here / "GrabCut"),
        "NETS": {"B0": str(here / "w" / "net.pth")}}


def test_without_overrides_the_stock_config_stands(root, here):
    result = seen(run(root, here, "scripts/show.py"))
    assert result["cfg"] == {"EXPS_PATH": "./experiments", "NETS": {"B0": "stock"}}


@pytest.mark.parametrize(("arguments", "message"), [
    (["scripts/none.py"], "is a file"),
    (["--set", "EXPS_PATH", "scripts/show.py"], "expected --set KEY=VALUE"),
    (["--config", "no.yml", "scripts/show.py"], "not a file"),
])
def test_wrong_arguments_exit_with_2_and_a_remedy(root, here, arguments, message):
    process = run(root, here, *arguments)
    assert process.returncode == 2 and message in process.stderr
    assert "Traceback" not in process.stderr


def test_exit_code_and_message_of_the_script_are_kept(root, here):
    (root / "fail.py").write_text("import sys\nsys.exit(int(sys.argv[1]))\n")
    (root / "say.py").write_text("import sys\nsys.exit('the reason')\n")
    assert run(root, here, "--cpu", "fail.py", "7").returncode == 7
    process = run(root, here, "--cpu", "say.py")
    assert process.returncode == 1 and "the reason" in process.stderr


def test_cpu_is_chosen_aloud_without_cuda(monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert launcher.choose_device(asked_for_cpu=False) is True
    assert "--cpu" in capsys.readouterr().err
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert launcher.choose_device(asked_for_cpu=False) is False
    assert launcher.choose_device(asked_for_cpu=True) is True
    assert capsys.readouterr().err == ""


def test_arguments_after_the_script_belong_to_the_script():
    args = launcher.parse(["--codebase", "d", "train.py", "m.py", "--set", "x", "--cpu"])
    assert args.arguments == ["m.py", "--set", "x", "--cpu"] and not args.cpu
    assert isinstance(args, argparse.Namespace)


def test_argument_rules(here):
    absolute = launcher.absolute_argument
    assert absolute("w/net.pth", here) == str(here / "w" / "net.pth")
    assert absolute("--out=w/net.pth", here) == f"--out={here / 'w' / 'net.pth'}"
    for same in ("GrabCut", "--datasets", "-x", "/w/net.pth", "new/out", "", "NoBRS"):
        assert absolute(same, here) == same
    assert absolute("./GrabCut", here) == str(here / "GrabCut")


CHILDREN = """
import multiprocessing as mp
from isegm.utils.exp import number

def work(x):
    from isegm.utils import exp
    return exp.number() + x

class Box:
    def __init__(self, value):
        self.value = value

def unpack(box):
    return work(box.value)

if __name__ == '__main__':
    with mp.get_context('METHOD').Pool(1) as pool:
        print('SEEN', pool.map(unpack, [Box(number()), Box(0)]))
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_child_processes_are_patched(root, here, method):
    (root / "children.py").write_text(CHILDREN.replace("METHOD", method))
    process = run(root, here, "--cpu", "children.py")
    assert "SEEN [6, 3]" in process.stdout, process.stderr


INSTALLED = """
import multiprocessing as mp, warnings
import torch

def warned(_):
    from ritm_annotation.model.ops import DistMaps
    torch.set_warn_always(True)  # else the first caller in the process alone
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        DistMaps(5, use_disks=True)(torch.zeros(1, 3, 8, 9), torch.full((1, 2, 3), 3.0))
        warnings.warn('of the script')
    return [str(w.message) for w in caught]

if __name__ == '__main__':
    with mp.get_context('spawn').Pool(1) as pool:
        print('SEEN', warned(0), pool.map(warned, [0]))
"""


@pytest.mark.usefixtures("ritm")
def test_networks_of_the_installed_package_are_patched_too(root, here):
    """Checkpoints name them, of the zoo's for one; evaluating such warned about torch.meshgrid."""
    (root / "installed.py").write_text(INSTALLED)
    plain = python("installed.py", cwd=root)
    assert "torch.meshgrid" in plain.stdout, plain.stderr
    process = run(root, here, "--cpu", "installed.py")
    assert "SEEN ['of the script'] [['of the script']]" in process.stdout, process.stderr


def test_ctrl_c_gives_130_and_no_traceback(root, here):
    script = "import time\nprint('READY', flush=True)\ntime.sleep(60)\n"
    (root / "long.py").write_text(script)
    command = [sys.executable, "-m", "fdrn_adapter.launcher", "--codebase", str(root), "--cpu",
               "long.py"]
    process = subprocess.Popen(command, cwd=here, env=environment(), text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline().strip() == "READY"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in errors
    assert "Traceback" not in errors


def test_child_module_is_not_for_hands(tmp_path):
    code = "import runpy; runpy.run_module('fdrn_adapter.launcher_child', run_name='__mp_main__')"
    process = forked(lambda: exec(code) or 0, cwd=tmp_path)
    assert "started by fdrn run" in process.stderr


def test_a_folder_of_data_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="--set GRABCUT_PATH: there is no .*none"):
        launcher.parse_settings(["GRABCUT_PATH=none"], None)
    made = launcher.parse_settings(["EXPS_PATH=none"], None)
    assert made == {"EXPS_PATH": str(tmp_path / "none")}
