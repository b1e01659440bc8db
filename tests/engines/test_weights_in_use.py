"""Weights that were changed past torch's counters are seen at the next image at the latest."""

import numpy as np
import pytest
import torch
from support.stock import NARROW, picture, taught_host
from torch import nn

import fdrn_adapter
from fdrn_adapter import engines
from fdrn_adapter.weights import Weights, _content_there, content_of

CROP = 64


def fdrn():
    torch.manual_seed(0)
    return fdrn_adapter.wrap(
        taught_host("tiny"), init="paper", encoder="hrnet18s", **NARROW
    ).eval()


def probs(session):
    session.set_image(picture())
    session.add_click(96, 72)
    session.add_click(30, 20, False)
    return session.prob


def as_moving_average(net):
    for parameter in net.parameters():
        parameter.data.mul_(0.97)


def by_numpy(net):
    for parameter in net.parameters():
        values = parameter.detach().numpy()
        values *= 0.97


def channels_turned(net):
    for parameter in net.parameters():
        if parameter.ndim == 4 and parameter.shape[1] > 1:
            parameter.data.copy_(parameter.data.flip(1))


def other_eps(net):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.5


def replaced_data(net):
    for parameter in net.parameters():
        parameter.data = parameter.data * 1.03


def other_dilation(net):
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module.stride[0] == 1:
            module.dilation = module.padding = (2, 2)


def replaced_modules(net):
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.LeakyReLU):
                setattr(module, name, nn.SiLU())


CHANGES = [as_moving_average, by_numpy, channels_turned, other_eps, replaced_data]


COMPILED = {by_numpy, other_eps}  # of the others the eager engine tells by default


@pytest.mark.parametrize(("engine", "change"), [
    pytest.param(engine, change, marks=[] if engine == "eager" or change in COMPILED
                 else pytest.mark.slow)
    for engine in ("eager", "torch") for change in CHANGES
])
@pytest.mark.parametrize("part", ["encoder", "host"])
def test_changed_weights_are_seen_at_the_next_image(change, part, engine, ritm):
    model = fdrn()
    session = fdrn_adapter.InteractiveSession(model, engine, crop=CROP)
    before = probs(session)
    features = session.get_features()
    with torch.no_grad():
        change(model.image_encoder if part == "encoder" else model.host)
    seen = probs(session)
    want = probs(fdrn_adapter.InteractiveSession(fresh_copy(model), "eager", crop=CROP))
    assert np.abs(want - before).max() > 1e-3  # the change matters
    assert np.abs(seen - want).max() < 1e-3
    if part == "encoder":
        with pytest.raises(fdrn_adapter.FeatureMismatchError, match="other weights"):
            session.set_features(features)


@pytest.mark.parametrize("engine", ["eager", "torch"])
@pytest.mark.parametrize("change", [other_dilation, replaced_modules])
def test_another_structure_is_seen(change, engine, ritm):
    """Engines know that of stock hosts alone, and say so instead of going on with the old one."""
    model = fdrn()
    session = fdrn_adapter.InteractiveSession(model, engine, crop=CROP)
    before = probs(session)
    change(model.image_encoder)
    want = probs(fdrn_adapter.InteractiveSession(fresh_copy(model), "eager", crop=CROP))
    assert np.abs(want - before).max() > 1e-3
    assert np.abs(probs(session) - want).max() < 1e-3
    change(model.host)
    if engine == "eager":
        want = probs(fdrn_adapter.InteractiveSession(fresh_copy(model), "eager", crop=CROP))
        assert np.abs(probs(session) - want).max() < 1e-3
    else:
        with pytest.raises(RuntimeError, match="use engine='eager'"):
            probs(session)


def fresh_copy(model):
    """As nobody has seen it before."""
    import copy

    return copy.deepcopy(model)


@pytest.mark.parametrize("change", [
    c if c in COMPILED else pytest.param(c, marks=pytest.mark.slow) for c in CHANGES
])
def test_stock_networks_in_an_engine_as_well(change, ritm):
    host = taught_host("tiny")
    session = fdrn_adapter.InteractiveSession(host, "torch", crop=CROP)
    before = probs(session)
    with torch.no_grad():
        change(host)
    want = probs(fdrn_adapter.InteractiveSession(fresh_copy(host), "eager", crop=CROP))
    assert np.abs(want - before).max() > 1e-3
    assert np.abs(probs(session) - want).max() < 1e-3


def test_another_normalisation_is_seen(ritm):
    for name, value in (("mean", 0.3), ("std", 0.1)):
        model = fdrn()
        session = fdrn_adapter.InteractiveSession(model, "torch", crop=CROP)
        before = probs(session)
        getattr(model.host.normalization, name).add_(value)
        getattr(model.image_encoder, name).add_(value)
        want = probs(fdrn_adapter.InteractiveSession(fresh_copy(model), "eager", crop=CROP))
        assert np.abs(want - before).max() > 1e-3
        assert np.abs(probs(session) - want).max() < 1e-3


def test_unchanged_weights_compile_and_encode_once(ritm, monkeypatch):
    model = fdrn()
    session = fdrn_adapter.InteractiveSession(model, "torch", crop=CROP)
    probs(session)
    runner = engines.accelerated.runner_of(model, "torch")
    encoded = []
    monkeypatch.setattr(type(model.image_encoder), "features_from",
                        lambda self, *args, **kwargs: encoded.append(1))
    for _ in range(3):
        probs(session)
    assert engines.accelerated.runner_of(model, "torch") is runner and not encoded


def test_the_cap_of_the_encoder_is_part_of_what_features_are_of(ritm):
    model = fdrn()
    session = fdrn_adapter.InteractiveSession(model, "eager", crop=CROP)
    session.set_image(picture())
    model.image_encoder.max_side = 96
    session.set_image(picture())
    assert session.get_features().input_size == (64, 96)


def test_a_model_in_training_mode_is_refused_with_the_next_image(ritm):
    model = fdrn()
    session = fdrn_adapter.InteractiveSession(model, crop=CROP)
    before = probs(session)
    model.train()
    with pytest.raises(ValueError, match="training mode"):
        session.set_image(255 - picture())
    assert np.array_equal(session.prob, before)


def test_contents_are_told_apart():
    torch.manual_seed(0)
    for size in (0, 1, 7, 9_000, 60_001):
        for dtype in (torch.float32, torch.float16, torch.float64, torch.bfloat16, torch.int64):
            values = (torch.randn(size) * 100).to(dtype)
            same = content_of(values)
            assert content_of(values.clone()) == same
            if size > 1:
                for place in (0, size // 2, size - 1):
                    other = values.clone()
                    other[place] = other[place] + 1
                    assert content_of(other) != same
                assert content_of(values.flip(0)) != same
    assert content_of(torch.randn(4, 5).T) is not None


def test_contents_on_a_device_are_told_apart(device):
    """Also those that torch's counters do not know of; the device is waited for once."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 40, 3), torch.nn.BatchNorm2d(40), torch.nn.Conv2d(40, 40, 3)
    ).to(device, memory_format=torch.channels_last)
    watched = Weights(network.modules())
    watched.look()
    seen = [watched.state()]
    for tensor, place in ((network[0].weight, 1), (network[2].weight, 14_399), (network[1].eps, 0)):
        if torch.is_tensor(tensor):
            tensor.data.as_strided((tensor.numel(),), (1,))[place] += 0.5
        else:
            network[1].eps = 0.1
        watched.look()
        seen.append(watched.state())
        watched.look()
        assert watched.state() == seen[-1]
    assert all(a != b for i, a in enumerate(seen) for b in seen[:i])
    parts = [torch.arange(90_000).view(torch.uint8), torch.arange(7, dtype=torch.uint8)]
    assert _content_there(parts) == _content_there([p.clone() for p in parts])
    assert _content_there(parts) != _content_there([parts[0].flip(0), parts[1]])
    assert _content_there(parts) != _content_there([parts[0], parts[1].flip(0)])


def test_watching_keeps_no_module_alive():
    import weakref

    net = nn.Linear(2, 2)
    watched = Weights(net.modules())
    watched.look()
    gone = weakref.ref(net)
    del net
    assert gone() is None and watched.state() is not None


def test_a_network_that_gives_nan_says_so(ritm):
    model = fdrn()
    session = fdrn_adapter.InteractiveSession(model, crop=CROP)
    before = probs(session)
    with torch.no_grad():
        model.host.feature_extractor.cls_head.bias.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="gives NaN for this click"):
        session.add_click(50, 50)
    assert np.array_equal(session.prob, before)


def test_weights_that_were_turned_in_their_memory_are_seen():
    layer = nn.Linear(5, 5)
    weights = Weights([layer])
    weights.look()
    before = weights.state()
    layer.weight.data = layer.weight.data.t()  # the same memory and size, read in another order
    weights.look()
    assert weights.state() != before


def test_a_module_that_moves_to_the_next_is_seen():
    first, second = nn.Sequential(nn.ReLU(), nn.Tanh()), nn.Sequential(nn.ReLU())
    weights = Weights([first, second])
    assert weights.modules_stayed()
    moved = first.pop(1)
    second.insert(0, moved)  # all children in a row are the same as before
    assert not weights.modules_stayed()
