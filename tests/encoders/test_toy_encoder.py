"""An image encoder of somebody else: one row, nothing of ours edited."""

import pytest
import torch
from support.networks import build_host, make_input, make_points
from torch import nn
from torch.nn import functional as F

import fdrn_adapter
from fdrn_adapter import encoders
from fdrn_adapter.encoders.catalogue import build_encoder
from fdrn_adapter.features import Grid, ImageFeatures


class ToyBackbone(encoders.Backbone):
    """Two strided convolutions; cell j of each map stands on pixel stride * j."""

    mean, std = (0.0, 0.0, 0.0), (0.5, 0.5, 0.5)

    def __init__(self, use_low, use_high):
        super().__init__()
        self.fine = nn.Conv2d(3, 6, 5, stride=4, padding=2)
        self.coarse = nn.Conv2d(6, 10, 5, stride=4, padding=2)
        if use_low:
            self.taps["low"] = encoders.Tap("fine", 6, Grid(4))
        if use_high:
            self.taps["high"] = encoders.Tap("coarse", 10, Grid(16))

    def forward(self, x):
        low = F.relu(self.fine(x))
        return low if self.low else None, self.coarse(low) if self.high else None


class ToyEncoders(encoders.EncoderFamily):
    name, prefix, help = "toys", "toy:", "a toy of that name"

    def may_stand_in_files(self, encoder):
        return True

    def build(self, encoder, host, info, b_low, b_high):
        if encoder != "toy:bear":
            raise ValueError(f"There is no toy {encoder!r}; there is 'toy:bear'.")
        return ToyBackbone(b_low is not None, b_high is not None)


@pytest.fixture
def family():
    yield encoders.FAMILIES.add(ToyEncoders())
    encoders.FAMILIES.remove("toys")


def test_without_the_row_it_is_unknown():
    with pytest.raises(ValueError, match="Unknown encoder 'toy:bear'. Allowed: '"):
        fdrn_adapter.wrap(build_host("tiny"), encoder="toy:bear")


@pytest.mark.usefixtures("family")
def test_wrapped_recycled_saved_and_loaded(tmp_path):
    host = build_host("tiny")
    for wrong, message in (("toy:dog", "no toy 'toy:dog'"), ("toi", "'toy:<name>' for a toy")):
        with pytest.raises(ValueError, match=message):
            fdrn_adapter.wrap(host, encoder=wrong)
    with pytest.raises(ValueError, match="image encoder 'toy:bear' has blocks 0..0"):
        fdrn_adapter.wrap(host, encoder="toy:bear", b_high=1)

    x, points = make_input(96, 128), make_points([[30, 40, 0], [60, 70, 1]])
    identity = fdrn_adapter.wrap(host, encoder="toy:bear")
    model = fdrn_adapter.wrap(host, encoder="toy:bear", init="paper").eval()
    assert model.encoder_source == "random"
    assert model.image_encoder.grids == {"low": Grid(4), "key": Grid(16), "query": Grid(16)}
    with torch.no_grad():
        assert torch.equal(identity(x, points)["instances"], host(x, points)["instances"])
        features = model.encode_image(x[:, :3])
        with model.recycling(features, [[0, 95, 0, 127]]):
            recycled = model(x, points)["instances"]
        with model.recycling(features, [[30, 95, 40, 127]]):
            elsewhere = model(x, points)["instances"]
        assert (recycled - model(x, points)["instances"]).abs().max() < 1e-5
    assert (recycled - elsewhere).abs().max() > 1e-4

    fdrn_adapter.save(model, tmp_path / "toy.pth")
    loaded = fdrn_adapter.load(tmp_path / "toy.pth")
    features.save(tmp_path / "features.pt")
    kept = ImageFeatures.load(tmp_path / "features.pt")
    with torch.no_grad(), loaded.recycling(kept, [[0, 95, 0, 127]]):
        assert torch.equal(loaded(x, points)["instances"], recycled)


class ToyEmbedding(encoders.Backbone):
    """Offers one map that is neither f_low nor f_high."""

    offers = ("embedding",)

    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(3, 7, 16, stride=16)
        self.taps["embedding"] = encoders.Tap("net", 7, Grid(16, (7.5, 7.5)))

    def forward(self, x):
        return (self.net(x),)


def test_other_maps_are_recycled_as_they_come(tmp_path):
    host = build_host("tiny")
    encoder = build_encoder(ToyEmbedding(), "toy", host.normalization, 1280, frozen=True)
    image = make_input(64, 96)[:, :3]
    with torch.no_grad():
        features = encoder(image)
        want = encoder.backbone.net((image - encoder.mean) / encoder.std)
    assert list(features.maps) == ["embedding"] and torch.equal(features.maps["embedding"], want)
    assert features.grids == {"embedding": Grid(16, (7.5, 7.5))}
    assert features.architecture == "toy(net; 7)"
    features.save(tmp_path / "f.pt")
    assert torch.equal(ImageFeatures.load(tmp_path / "f.pt").maps["embedding"], want)
    assert not any(p.requires_grad for p in encoder.backbone.parameters())
