"""A host family of somebody else: one row, nothing of ours edited."""

import copy

import numpy as np
import pytest
import torch
from support.networks import as_array, enliven, make_input, make_object, make_points
from torch import nn
from torch.nn import functional as F

import fdrn_adapter
from fdrn_adapter import hosts
from fdrn_adapter.grafts.injection import Injection

ritm = pytest.importorskip("ritm_annotation")

from ritm_annotation.model.is_model import ISModel  # noqa: E402
from ritm_annotation.utils.serialization import serialize  # noqa: E402


def down(channels: int, out: int) -> nn.Sequential:
    """Half the size."""
    conv = nn.Conv2d(channels, out, 3, stride=2, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


def level(channels: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, 3, padding=1)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


class ToyNet(ISModel):
    """A U of plain convolutions: no branches, no tokens; clicks join behind the stem, stride 2."""

    @serialize
    def __init__(self, width=8, norm_radius=5, use_disks=True, with_prev_mask=True):
        super().__init__(use_rgb_conv=False, norm_radius=norm_radius, use_disks=use_disks,
                         with_prev_mask=with_prev_mask)
        self.trunk = nn.Module()
        self.trunk.stem = nn.Conv2d(3, 64, 3, stride=2, padding=1)
        self.trunk.to_fine = down(64, width)
        self.trunk.fine = nn.ModuleList([level(width), level(width)])
        self.trunk.to_coarse = nn.Sequential(down(width, 2 * width), down(2 * width, 3 * width))
        self.trunk.coarse = nn.ModuleList([level(3 * width) for _ in range(3)])
        self.head = nn.Conv2d(4 * width, 1, 1)

    def backbone_forward(self, image, coord_features=None):
        x = self.trunk.to_fine(F.relu(self.trunk.stem(image) + coord_features))
        for block in self.trunk.fine:
            x = block(x)
        y = self.trunk.to_coarse(x)
        for block in self.trunk.coarse:
            y = block(y)
        y = F.interpolate(y, x.shape[2:], mode="bilinear", align_corners=True)
        return {"instances": self.head(torch.cat([x, y], dim=1))}


class MapInjection(Injection):
    """Into a block that returns a plain map."""

    def __call__(self, module, args, output):
        return self.integrate(output)


class ToyFamily(hosts.HostFamily):
    name, title, supported = "toy", "ToyNet", "ToyNet of a test"
    parts = ("normalization", "prepare_input", "trunk.fine", "trunk.coarse")
    default_encoder = "hrnet18s"
    low_stage, high_stage = "the host's fine level", "the host's coarse level"

    def describe(self, net):
        fine, coarse = net.trunk.fine, net.trunk.coarse
        return hosts.HostInfo(
            family=self.name, package="ritm_annotation", name="a toy", backbone="trunk",
            low_site="trunk.fine", high_site="trunk.coarse", low_blocks=len(fine),
            high_blocks=len(coarse), low_channels=fine[0][0].out_channels,
            high_channels=coarse[0][0].out_channels, click_maps="dist_maps",
            click_encoder="maps_transform", click_channels=64, fdrn_crop=96,
        )

    def injection(self, module, intake, key):
        return MapInjection(module, intake, key)


@pytest.fixture
def family():
    yield hosts.FAMILIES.add(ToyFamily())
    hosts.FAMILIES.remove("toy")


@pytest.fixture
def host():
    torch.manual_seed(0)
    return enliven(ToyNet(width=6)).eval()


def test_without_the_row_it_is_no_host(host):
    with pytest.raises(hosts.UnsupportedHostError, match="not a supported host"):
        fdrn_adapter.wrap(host)


@pytest.mark.usefixtures("family")
def test_wrapped_clicked_saved_loaded_and_unwrapped(host, tmp_path):
    state = copy.deepcopy(host.state_dict())
    x, points = make_input(96, 96), make_points([[30, 40, 0], [60, 70, 1]])
    with torch.no_grad():
        want = host(x, points)["instances"]
    identity = fdrn_adapter.wrap(host)
    model = fdrn_adapter.wrap(host, init="paper", b_low_tilde=0).eval()
    assert model.info.family == "toy" and model.settings.encoder == "hrnet18s"
    assert (model.settings.b_low_tilde, model.settings.b_high_tilde) == (0, 2)
    with torch.no_grad():
        assert (identity(x, points)["instances"] - want).abs().max() < 1e-5
        assert (model(x, points)["instances"] - want).abs().max() > 1e-3
        whole = model.encode_image(x[:, :3])
        with model.recycling(whole, [[0, 95, 0, 95]]):
            recycled = model(x, points)["instances"]
        with model.recycling(whole, [[20, 95, 20, 95]]):
            elsewhere = model(x, points)["instances"]
    assert (recycled - model(x, points)["instances"]).abs().max() < 1e-5
    assert (recycled - elsewhere).abs().max() > 1e-4  # the features are felt

    image, _ = make_object(120, 160)
    session = fdrn_adapter.InteractiveSession(model, engine="eager")
    encodings = []
    model.image_encoder.register_forward_hook(lambda *_: encodings.append(1))
    session.set_image(as_array(image))
    first = session.add_click(80, 60)
    prob = session.prob
    session.add_click(20, 20, positive=False)
    assert np.array_equal(session.undo(), first) and np.array_equal(session.prob, prob)
    assert len(encodings) == 1 and prob.shape == (120, 160) and np.ptp(prob) > 0

    fdrn_adapter.save(model, tmp_path / "toy.pth")
    with pytest.raises(fdrn_adapter.CheckpointError, match="trust="):
        fdrn_adapter.load(tmp_path / "toy.pth")
    loaded = fdrn_adapter.load(tmp_path / "toy.pth", trust=[__name__])
    assert type(loaded.host) is ToyNet and loaded.settings == model.settings
    with torch.no_grad():
        assert torch.equal(loaded(x, points)["instances"], model(x, points)["instances"])
        back = fdrn_adapter.unwrap(model)
        assert torch.equal(back(x, points)["instances"], want)
    assert back.state_dict().keys() == state.keys()
    assert all(torch.equal(v, state[k]) for k, v in back.state_dict().items())


@pytest.mark.usefixtures("family")
def test_engines_leave_it_alone(host, monkeypatch):
    monkeypatch.delenv("FDRN_ENGINE")
    model = fdrn_adapter.wrap(host)
    assert fdrn_adapter.InteractiveSession(model).engine == "eager"
    session = fdrn_adapter.InteractiveSession(model, engine="torch")
    session.set_image(as_array(make_object(60, 80)[0]))
    with pytest.raises(hosts.UnsupportedHostError, match="a toy has a structure .*engine='eager'"):
        session.add_click(40, 30)


@pytest.mark.usefixtures("family")
def test_messages_know_the_family(host):
    with pytest.raises(ValueError, match="the host's fine level has blocks 0..1"):
        fdrn_adapter.wrap(host, b_low_tilde=2)
    del host.trunk.coarse
    with pytest.raises(hosts.UnsupportedHostError, match=r"parts of a ToyNet and .* trunk.coarse"):
        fdrn_adapter.wrap(host)
