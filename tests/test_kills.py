"""kill -9 at random moments: what was begun is gone on with, and gives what it would have given.

FDRN_KILLS: so many of each command (30 take some minutes).
"""

import contextlib
import json
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from support.embedding_networks import write_embedding_fdrn
from support.evaluation_data import grabcut
from support.networks import build_host
from support.training_fixtures import write_folder

import fdrn_adapter
from fdrn_adapter import cli
from fdrn_adapter.output_folders import changed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ritm")]
KILLS = int(os.environ.get("FDRN_KILLS", "5"))


def started(words, log):
    """A process that runs a command; it has all imports already, so that kills fall into the work.
    """
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        with log.open("a") as file, contextlib.redirect_stdout(file), \
                contextlib.redirect_stderr(file):
            code = cli.main(words)
            file.flush()
    finally:
        os._exit(code)


def finish(words, log):
    """Run a command to its end; returns the seconds."""
    start = time.monotonic()
    _, status = os.waitpid(started(words, log), 0)
    assert os.waitstatus_to_exitcode(status) == 0, log.read_text()[-3000:]
    return time.monotonic() - start


def killed(words, log, after):
    """Start a command and kill it; returns whether it was still running. It may not fail."""
    process = started(words, log)
    time.sleep(after)
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (-signal.SIGKILL, 0), (code, log.read_text()[-3000:])
    return code != 0


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("ritm_annotation")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("fdrn")
    file = write_embedding_fdrn(folder, "fdrn.pth")
    plain = fdrn_adapter.wrap(build_host(), encoder="hrnet18s", init="paper")
    fdrn_adapter.save(plain, folder / "plain.pth")
    os.environ["FDRN_SAM_ENCODER"] = str(file)
    yield folder
    del os.environ["FDRN_SAM_ENCODER"]


def benchmark(network, folder):
    data = grabcut(folder / "data", 6)
    words = ["benchmark", "--models", f"a={network / 'plain.pth'}", "--datasets", f"GrabCut={data}",
             "--clicks", "5", "--engine", "eager", "--threads", "1", "--protocol", "noc"]
    return words, ["--resume"]


def train(network, folder):
    data = write_folder(folder / "own", count=6)
    words = ["train", "--model", str(network / "fdrn.pth"), "--data", str(data), "--samples", "24",
             "--sizes", "64", "--batch", "4", "--log-every", "0", "--save-every", "0"]
    return words, ["--resume"]


def export(network, folder):
    return ["export", "--model", str(network / "plain.pth"), "--crop", "64"], []


def encode(network, folder):
    data = write_folder(folder / "own", count=10)
    return ["encode", "--model", str(network / "fdrn.pth"), "--data", str(data), "--processes",
            "1"], []


def found_benchmark(out):
    runs = json.loads((out / "results.json").read_text())["runs"]
    assert (out / "report.md").is_file()
    return [(r["noc"], r["n_samples"], [(s["id"], s["ious"]) for s in r["samples"]]) for r in runs]


def found_train(out):
    record = json.loads((out / "training.json").read_text())
    assert changed(out, {"model.pth": record["sha256"]}) == []
    weights = torch.load(out / "model.pth", weights_only=True)["state_dict"]
    return record["samples"], record["curve"], {k: v.numpy().tobytes() for k, v in weights.items()}


def found_export(out):
    meta = json.loads((out / "meta.json").read_text())
    sums = {name: part["sha256"] for name, part in meta["files"].items()}
    assert changed(out, sums) == []
    return sums


def found_encode(out):
    manifest = json.loads((out / "manifest.json").read_text()) if (
        out / "manifest.json").is_file() else json.loads(next(out.glob("*.json")).read_text())
    assert changed(out, {f"{k}.npy": v["sha256"] for k, v in manifest["images"].items()}) == []
    return {k: np.load(out / f"{k}.npy").tobytes() for k in manifest["images"]}


COMMANDS = {"benchmark": (benchmark, found_benchmark), "train": (train, found_train),
            "export": (export, found_export), "encode": (encode, found_encode)}


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_random_moments_the_results_are_the_same(name, network, tmp_path):
    torch.set_num_threads(1)
    make, found = COMMANDS[name]
    words, resume = make(network, tmp_path)
    log = tmp_path / "log.txt"
    seconds = finish([*words, "--out", str(tmp_path / "whole")], log)
    want = found(tmp_path / "whole")
    chance, alive, turn, out = random.Random(0), 0, 0, tmp_path / "killed-0"
    while alive < KILLS:
        # Within what is left; a run that got through is begun anew, so that all parts are hit.
        alive += killed([*words, *resume, "--out", str(out)], log, chance.uniform(0, seconds))
        if name == "export" and (out / "meta.json").is_file():
            assert found(out) == want
        if chance.random() < 0.25:
            finish([*words, *resume, "--out", str(out)], log)
            assert found(out) == want
            turn += 1
            out = tmp_path / f"killed-{turn}"
    finish([*words, *resume, "--out", str(out)], log)
    assert found(out) == want
    left = [p.name for p in out.rglob("*.part")]
    print(f"{name}: {alive} kills within {seconds:.1f} s, {turn + 1} times the same; left: {left}")
