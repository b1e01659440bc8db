"""The training loop: it learns, goes on to the step, stops when asked and at NaN."""

import multiprocessing

import numpy as np
import pytest
import torch
from support.networks import build_host
from support.training_fixtures import write_folder

import fdrn_adapter
from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.evaluation.datasets.for_training import open_pictures
from fdrn_adapter.training import state
from fdrn_adapter.training.batched import processes, resumable, run, stepper
from fdrn_adapter.training.batched.corpus import Corpus
from fdrn_adapter.training.batched.pictures import keep
from fdrn_adapter.training.batched.plan import Plan
from fdrn_adapter.training.batched.run import Training

pytestmark = pytest.mark.usefixtures("ritm")
PLAN = Plan(samples=16, sizes=((64, 0.75), (96, 0.25)), batch=4, rounds=2)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_folder(folder / "a", count=4)
    return [keep(p, folder) for p in open_pictures(str(folder / "a"))]


def made(kept, folder, plan=PLAN, net=None, **options):
    folder.mkdir(exist_ok=True)
    net = build_host(seed=3) if net is None else net
    return Training(net, Corpus(kept), plan, folder, **options)


def test_goes_on_to_the_very_step(kept, tmp_path):
    whole = made(kept, tmp_path / "whole")
    assert whole.run()
    first = made(kept, tmp_path / "parts", stop=lambda: first.step >= 1)
    assert not first.run() and first.step == 2
    second = made(kept, tmp_path / "parts", net=build_host(seed=8))
    second.resume()
    assert second.run() and second.step == whole.step == PLAN.steps() == 5
    wanted, found = whole.net.state_dict(), second.net.state_dict()
    start = build_host(seed=3).state_dict()
    assert any(not torch.equal(start[k], wanted[k]) for k in wanted)
    assert all(torch.equal(found[k], wanted[k]) for k in wanted)
    assert second.curve == whole.curve
    moments = [t.optimizer.state_dict()["state"][0]["exp_avg"] for t in (whole, second)]
    assert torch.equal(*moments)


def test_another_plan_is_refused_and_more_samples_are_not(kept, tmp_path):
    first = made(kept, tmp_path, stop=lambda: True)
    assert not first.run()
    with pytest.raises(ValueError, match="batch: 4 then, 8 now"):
        made(kept, tmp_path, Plan(**{**vars(PLAN), "batch": 8})).resume()
    longer = made(kept, tmp_path, Plan(**{**vars(PLAN), "samples": 60}))
    longer.resume()
    assert longer.step == 1
    resumable.write(tmp_path / resumable.NAME, step=-1, plan=[])
    with pytest.raises(CheckpointError, match="'weights' is missing.*'step' should be"):
        longer.resume()
    state.write(tmp_path / resumable.NAME, epoch=1)
    with pytest.raises(CheckpointError, match="no training state of `fdrn train`"):
        longer.resume()


def test_nan_names_the_step_and_keeps_the_state(kept, tmp_path, monkeypatch):
    training = made(kept, tmp_path, save_s=0)
    before, calls = stepper.loss_of, []

    def loss(*args):
        calls.append(1)
        return before(*args) * (float("nan") if len(calls) == 3 else 1)

    monkeypatch.setattr(stepper, "loss_of", loss)
    with pytest.raises(run.NotFiniteError, match=r"Step 2 .8 samples.*loss is nan.*before it"):
        training.run()
    stored = resumable.read(tmp_path / resumable.NAME)
    assert stored["step"] == 2
    assert all(torch.isfinite(t).all() for t in stored["weights"].values())
    assert not (tmp_path / run.CHECKPOINT).exists()


def test_an_infinite_gradient_is_not_learnt(kept, tmp_path, monkeypatch):
    training = made(kept, tmp_path)
    weight = next(p for p in training.net.parameters() if p.requires_grad)
    weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(run.NotFiniteError, match=r"Step 0 .*norm (nan|inf).*no state"):
        training.run()
    assert torch.isfinite(weight).all()


def test_a_step_gives_gradients_to_what_is_trained(kept):
    model = fdrn_adapter.wrap(
        build_host(), encoder="hrnet18s", init="paper", context_channels=8, affinity="gather"
    )
    corpus, plan = Corpus(kept), Plan(rounds=1)
    step = stepper.Stepper(model.train(), plan)
    batch = corpus.batch(2, 64, 1, 0.3, torch.Generator().manual_seed(0), canvas=True)
    loss, iou = step(batch, torch.Generator().manual_seed(0), rounds=1)
    assert torch.isfinite(loss) and 0 <= iou <= 1
    without = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is None}
    assert without <= {"image_encoder"}  # F1's last fuse layers make maps that nobody reads
    used = [n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()]
    for part in ("sfi.", "tfi.", "image_encoder.key_view", "image_encoder.backbone.conv1", "host."):
        assert any(name.startswith(part) for name in used), part
    assert model.training


@pytest.mark.slow
def test_loss_goes_down(kept, tmp_path):
    plan = Plan(samples=240, sizes=((64, 1.0),), batch=6, rounds=1, lr=3e-3, spoiled=0.2)
    training = made(kept, tmp_path, plan)
    losses, take = [], training._note
    training._note = lambda size, loss, iou: (losses.append(loss), take(size, loss, iou))
    assert training.run()
    assert np.mean(losses[-8:]) < 0.75 * np.mean(losses[:4])
    assert training.curve[-1][0] == 240


def test_networks_that_are_not_for_this(kept):
    with pytest.raises(ValueError, match="take the previous mask"):
        stepper.check_trainable(build_host(with_prev_mask=False))


def part(rank: int, store: str, queue) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=2
    )
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(float(rank + 1))
    processes.start_equal(net)
    started = [p.detach().clone() for p in net.parameters()]
    x = torch.arange(6.0).view(2, 3) * (rank + 1)
    net(x).square().sum().backward()
    own = [p.grad.clone() for p in net.parameters()] + [net[1].running_mean.clone()]
    values = processes.agree(net, torch.tensor([float(rank), 1.0]))
    now = [p.grad for p in net.parameters()] + [net[1].running_mean]
    queue.put((rank, [[t.tolist() for t in ts] for ts in (started, own, now)], values.tolist()))
    torch.distributed.destroy_process_group()


def test_processes_agree_on_gradients_and_statistics(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [
        context.Process(target=part, args=(rank, str(tmp_path / "store"), queue)) for rank in (0, 1)
    ]
    for worker in workers:
        worker.start()
    (_, first, values), (_, second, others) = sorted(queue.get(timeout=3600) for _ in workers)
    for worker in workers:
        worker.join()
    assert values == others == [0.5, 1.0]
    assert first[0] == second[0] and first[1] != second[1] and first[2] == second[2]
    for a, b, mean in zip(first[1], second[1], first[2], strict=True):
        np.testing.assert_allclose((np.array(a) + np.array(b)) / 2, mean, rtol=1e-6)
