"""The stock trainer on dynamic-scale samples: encodings, resuming, phases."""

import pytest
import torch
from support.networks import build_host, make_input, make_points
from support.training_fixtures import config, fdrn_model, make_trainer, stock_dataset, write_folder

import fdrn_adapter
from fdrn_adapter import training
from fdrn_adapter.errors import CheckpointError
from fdrn_adapter.training.trainer import TrainingDivergedError

pytestmark = pytest.mark.usefixtures("ritm")
CROP, GLOBAL = (64, 64), (96, 96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "drawn")


def dataset(folder, **options):
    return training.DynamicScaleDataset(stock_dataset(folder), CROP, GLOBAL, **options)


def trainer_of(model, folder, out, **options):
    kept = None
    if options.pop("frozen", False):
        kept = training.FrozenFeatures(model.image_encoder, out / "features", GLOBAL)
    return make_trainer(model, config(out), dataset(folder, features=kept), **options)


def losses_of(trainer):
    """The list that every training step appends its loss to."""
    seen, forward = [], trainer.batch_forward

    def recorded(*args, **kwargs):
        result = forward(*args, **kwargs)
        seen.append(result[0].item())
        return result

    trainer.batch_forward = recorded
    return seen


@pytest.mark.parametrize("frozen", [False, True])
def test_one_encoding_per_phase(folder, tmp_path, frozen):
    """Whatever the number of clicks: one encoding without gradient, one with it."""
    model = fdrn_model(freeze_encoder=frozen)
    trainer = trainer_of(model, folder, tmp_path, frozen=frozen, max_num_next_clicks=3)
    views, network = [], []
    model.image_encoder.key_view.register_forward_hook(
        lambda *_: views.append(torch.is_grad_enabled())
    )
    model.host.register_forward_hook(lambda *_: network.append(torch.is_grad_enabled()))
    clicked = False
    for batch in [next(iter(trainer.train_data)) for _ in range(4)]:
        views.clear(), network.clear()
        trainer.net.train()
        trainer.batch_forward(dict(batch))
        clicks = network.count(False)
        clicked |= clicks > 1
        assert network.count(True) == 1 and views.count(True) == 1
        assert views.count(False) == (1 if clicks else 0)
    assert clicked


def test_clicks_that_answer_predictions_may_change_from_epoch_to_epoch(folder, tmp_path):
    """Predictions for a step: the one that is learnt from, and one before each further click."""
    model = fdrn_model()
    trainer = trainer_of(
        model, folder, tmp_path, next_clicks_at=lambda epoch: 0 if epoch == 0 else 6
    )
    learning = []
    model.host.register_forward_hook(lambda *_: learning.append(torch.is_grad_enabled()))
    trainer.training(0)
    assert learning == [True, True]  # four samples in steps of two
    learning.clear()
    trainer.training(1)
    assert learning.count(True) == 2 and learning.count(False) > 3  # more than the default's most


def test_every_adapter_part_learns_through_the_stock_trainer(folder, tmp_path):
    model = fdrn_model()
    before = {k: v.clone() for k, v in model.named_parameters()}
    trainer_of(model, folder, tmp_path).training(0)
    moved = {k for k, v in model.named_parameters() if not torch.equal(v, before[k])}
    for part in ("image_encoder.backbone", "image_encoder.key_view", "image_encoder.query_view",
                 "sfi", "tfi", "host.maps_transform.current", "host.maps_transform.history",
                 "host.maps_transform.fuse", "host.feature_extractor"):
        assert any(name.startswith(part) for name in moved), part


@pytest.mark.parametrize(
    "kind", ["fdrn", *(pytest.param(k, marks=pytest.mark.slow) for k in ("frozen", "stock"))]
)
def test_resumed_training_equals_uninterrupted_training(folder, tmp_path, kind):
    def fresh(out):
        torch.manual_seed(1)
        if kind == "stock":
            return trainer_of(build_host("tiny"), folder, out, ema_decay=0.9)
        frozen = kind == "frozen"
        model = fdrn_model(freeze_encoder=frozen)
        return trainer_of(model, folder, out, frozen=frozen, ema_decay=0.9)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = fresh(tmp_path / "whole")
        expected = losses_of(whole)
        whole.run(num_epochs=3, validation=False)
        first = fresh(tmp_path / "parts")
        start = losses_of(first)
        first.run(num_epochs=1, validation=False)
        torch.randn(7)  # whatever else the process does must not matter
        second = fresh(tmp_path / "parts")
        with torch.no_grad():
            next(second.net.parameters()).add_(1)  # nothing but the state counts
        second._resume()
        assert second.cfg.start_epoch == 1
        rest = losses_of(second)
        second.run(num_epochs=3, validation=False)
    finally:
        torch.set_num_threads(threads)
    assert len(expected) == 6 and len(start) == 2 and len(rest) == 4
    assert len(set(expected)) == 6
    assert start + rest == pytest.approx(expected, abs=1e-6)
    for name, value in whole.average.weights.items():
        assert torch.allclose(value, second.average.weights[name], atol=1e-6), name


def test_an_interrupted_run_loses_at_most_one_epoch(folder, tmp_path):
    trainer = trainer_of(fdrn_model(), folder, tmp_path)
    forward, steps = trainer.batch_forward, []

    def interrupted(*args, **kwargs):
        steps.append(1)
        if len(steps) == 4:  # in the middle of the second epoch
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    trainer.batch_forward = interrupted
    with pytest.raises(KeyboardInterrupt):
        trainer.run(num_epochs=3, validation=False)
    assert trainer_of(fdrn_model(), folder, tmp_path).cfg.start_epoch == 1


def test_a_foreign_training_state_is_refused(folder, tmp_path):
    cfg = config(tmp_path)
    torch.save({"weights": 1}, cfg.CHECKPOINTS_PATH / "training_state.pth")
    with pytest.raises(CheckpointError, match="no training state"):
        make_trainer(fdrn_model(), cfg, dataset(folder))


def test_the_average_is_saved_as_a_checkpoint_of_its_own(folder, tmp_path):
    model = fdrn_model()
    trainer = trainer_of(model, folder, tmp_path, ema_decay=0.99)
    trainer.run(num_epochs=1, validation=True)
    average = fdrn_adapter.load(tmp_path / "checkpoints" / "ema_checkpoint.pth")
    last = fdrn_adapter.load(tmp_path / "checkpoints" / "last_checkpoint.pth")
    a, b = average.sfi.conv.weight, last.sfi.conv.weight
    assert torch.equal(b, model.sfi.conv.weight)
    assert not torch.equal(a, b) and torch.allclose(a, b, atol=0.1)


def test_data_parallel_is_refused_with_the_remedy(folder, tmp_path):
    cfg = config(tmp_path)
    cfg.multi_gpu, cfg.ngpus = True, 2
    with pytest.raises(ValueError, match="torchrun --nproc_per_node=2"):
        make_trainer(fdrn_model(), cfg, dataset(folder))


def test_adapter_parts_train_alone_first(folder, tmp_path):
    model = fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s", freeze_encoder=True)
    trainer = trainer_of(model, folder, tmp_path, adapter_epochs=1, lr=1e-2)
    added = {id(p) for p in training.adapter_parameters(model)}
    host = {k: v.clone() for k, v in model.state_dict().items()}
    theirs = {
        name for name, p in model.named_parameters()
        if id(p) not in added and not name.startswith("image_encoder")
    }
    assert {"host.feature_extractor.conv1.weight"} <= theirs
    assert not any(name.startswith(("sfi", "tfi", "host.maps_transform.fuse")) for name in theirs)
    trainer.training(0)
    after = model.state_dict()
    statistics = {k for k in host if k.startswith("host.feature_extractor") and "running" in k}
    assert statistics and all(torch.equal(host[k], after[k]) for k in theirs | statistics)
    assert not torch.equal(host["host.maps_transform.fuse.weight"],
                           after["host.maps_transform.fuse.weight"])
    trainer.training(1)
    after = model.state_dict()
    assert any(not torch.equal(host[k], after[k]) for k in theirs)
    assert any(not torch.equal(host[k], after[k]) for k in statistics)


def test_adapter_epochs_need_an_fdrn(folder, tmp_path):
    with pytest.raises(ValueError, match="stock network"):
        make_trainer(build_host("tiny"), config(tmp_path), dataset(folder), adapter_epochs=1)


def test_warm_start_begins_where_the_host_stands(folder):
    host = build_host("tiny")
    model = fdrn_adapter.wrap(host, encoder="hrnet18s")
    image, points = make_input(64, 64), make_points([[20, 30, 0]])
    with torch.no_grad():
        assert torch.allclose(
            model(image, points)["instances"], host(image, points)["instances"], atol=1e-5
        )


def test_another_class_is_no_stock_trainer():
    with pytest.raises(ValueError, match="expected the ISTrainer"):
        training.dynamic_scale_trainer(dict)


def test_a_loss_that_is_not_finite_ends_training_and_keeps_the_last_good_state(folder, tmp_path):
    """NaN used to be trained on, saved over the only state, and gone on with."""
    trainer = trainer_of(fdrn_model(), folder, tmp_path)
    trainer.training(0)
    path = trainer._state_path
    good = path.read_bytes()
    with torch.no_grad():
        next(trainer._model.host.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingDivergedError, match="loss of step 1 of epoch 1 is nan.*lower"):
        trainer.training(1)
    with pytest.raises(TrainingDivergedError, match="weights are not finite.*nothing was saved"):
        trainer._write_state(1)
    assert path.read_bytes() == good


def test_a_damaged_checkpoint_beside_a_whole_state_is_not_needed(folder, tmp_path):
    """The stock trainer reads last_checkpoint.pth first, and ended there."""
    trainer = trainer_of(fdrn_model(), folder, tmp_path)
    trainer.run(num_epochs=1, validation=True)
    weights = {k: v.clone() for k, v in trainer._model.state_dict().items()}
    last = tmp_path / "checkpoints" / "last_checkpoint.pth"
    last.write_bytes(last.read_bytes()[:1000])
    cfg = config(tmp_path)
    cfg.resume_exp, cfg.resume_prefix = "000", "last_checkpoint"
    again = make_trainer(fdrn_model(), cfg, dataset(folder))
    assert again.cfg.start_epoch == 1
    assert all(torch.equal(weights[k], v) for k, v in again._model.state_dict().items())
    trainer._state_path.unlink()
    with pytest.raises((RuntimeError, EOFError)):  # the stock way, which needs it
        make_trainer(fdrn_model(), cfg, dataset(folder))


def test_fewer_samples_than_a_batch_are_refused_with_the_remedy(folder, tmp_path):
    cfg = config(tmp_path)
    cfg.batch_size = 1000
    with pytest.raises(ValueError, match="samples fill no batch of 1000: take a smaller"):
        make_trainer(fdrn_model(), cfg, dataset(folder))
