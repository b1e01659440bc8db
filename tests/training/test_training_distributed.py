"""Several processes by torchrun: gradients are averaged, weights stay equal on all ranks.

Needs FDRN_RITM_ROOT; skipped without.
"""

import subprocess
import sys

import pytest
import torch
from support import experiment_fixtures as made
from support.codebase_fixtures import checkout, environment

pytestmark = pytest.mark.slow

# A light network; every rank keeps its weights and its own last gradients.
EXPERIMENT = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
import fdrn_adapter
from fdrn_adapter.training import paper, trainer
from support.networks import build_host
MODEL_NAME = "two"

def main(cfg):
    model, model_cfg = init_model(cfg)
    own, mean, average = [], [], trainer.average_gradients
    def gradients(net):
        return torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
    def kept(net):
        own.append(gradients(net))
        average(net)
        mean.append(gradients(net))
    trainer.average_gradients = kept
    plan = paper.Schedule(epochs=2, lr=1e-2, adapter_epochs={adapter}).overridden(cfg)
    paper.fit(model, cfg, model_cfg, "isegm", "davis", plan)
    torch.save({{"weights": model.state_dict(), "own": own, "mean": mean,
                "batch": cfg.batch_size}}, {out!r} + f"/rank{{cfg.local_rank}}.pth")

def init_model(cfg):
    host = build_host("tiny", "isegm", seed=cfg.local_rank)  # rank 0's weights have to win
    model = fdrn_adapter.wrap(host, encoder="hrnet18s", init="{init}").train()
    return model, paper.model_config(paper.Schedule(epochs=2).overridden(cfg), "isegm")
"""


@pytest.mark.parametrize(("init", "adapter"), [("paper", 0), ("identity", 1)])
def test_two_processes_stay_equal(tmp_path, init, adapter):
    root = checkout("FDRN_RITM_ROOT")
    data, _ = made.folder(tmp_path / "data")
    (tmp_path / "experiments").mkdir()
    script = tmp_path / "experiments" / "two.py"
    tests = str(made.Path(__file__).parents[1])
    script.write_text(EXPERIMENT.format(tests=tests, out=str(tmp_path), init=init, adapter=adapter))
    settings = {"EXPS_PATH": tmp_path / "out", "FOLDER": data, "EPOCH_LEN": 8, "CROP": 64,
                "GLOBAL": 96}
    process = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m",
         "fdrn_adapter.launcher", "--codebase", str(root), "--cpu",
         *[a for k, v in settings.items() for a in ("--set", f"{k}={v}")],
         "train.py", str(script), "--workers", "0", "--batch-size", "4"],
        cwd=tmp_path, env=environment(), text=True, capture_output=True, timeout=3600, check=False,
    )
    assert process.returncode == 0, process.stderr[-5000:]
    first, second = (torch.load(tmp_path / f"rank{i}.pth") for i in (0, 1))
    assert first["batch"] == second["batch"] == 2  # each of the two
    assert len(first["own"]) == 4  # two steps an epoch
    for a, b, mean, other in zip(first["own"], second["own"], first["mean"], second["mean"],
                                 strict=True):
        assert not torch.equal(a, b), "both ranks saw the same samples: this shows nothing"
        assert torch.equal(mean, other)
        assert torch.allclose(mean, (a + b) / 2, atol=1e-7)
    for name, value in first["weights"].items():
        assert value.isfinite().all() and torch.equal(value, second["weights"][name]), name
