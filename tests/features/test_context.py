"""A third view of f_high beside f_low: the option that is not in the paper."""

import pytest
import torch
from support.networks import build_host, enliven, make_input, make_points

import fdrn_adapter
from fdrn_adapter.features.recycling import recycle
from fdrn_adapter.features.roi import Grid

pytestmark = pytest.mark.usefixtures("ritm")
POINTS = make_points([[30, 40, 0]], [[10, 80, 1]])
BOX = (20, 140, 30, 200)


def wrapped(init="paper", **options):
    torch.manual_seed(0)
    model = fdrn_adapter.wrap(
        build_host("tiny"), init=init, encoder="hrnet18s", **{"context_channels": 8, **options}
    )
    return model.eval()


@torch.no_grad()
def test_it_is_aligned_like_f_low_and_joined_with_it():
    model = wrapped()
    features = model.encode_image(make_input(160, 240)[:, :3])
    assert features.maps["context"].shape == (1, 8, *features.maps["key"].shape[2:])
    both = recycle(features, [BOX])
    joined = both.low((96, 96), Grid(4), (24, 24))
    low = both._align("low", (96, 96), Grid(4), (24, 24))
    context = both._align("context", (96, 96), Grid(4), (24, 24))
    assert torch.equal(joined, torch.cat([low, context], dim=1))
    assert context.std() > 0


@torch.no_grad()
def test_it_matters_and_identity_ignores_it():
    crop = make_input(96, 96)
    image = make_input(160, 240, seed=1)[:, :3]
    model = wrapped()
    enliven(model.tfi)
    features = model.encode_image(image)
    with model.recycling(features, [BOX]):
        before = model(crop, POINTS)["instances"]
    features.maps["context"] += 1
    changed = features.to(torch.float32)  # without what is kept of the alignment
    with model.recycling(changed, [BOX]):
        assert (model(crop, POINTS)["instances"] - before).abs().max() > 1e-4

    host = build_host("tiny")
    same = fdrn_adapter.wrap(host, encoder="hrnet18s", context_channels=8)
    difference = same(crop, POINTS)["instances"] - host(crop, POINTS)["instances"]
    assert difference.abs().max() < 1e-5


def test_checkpoints_keep_it_and_features_of_others_are_refused(tmp_path):
    model, plain = wrapped(), wrapped(context_channels=0)
    fdrn_adapter.save(model, tmp_path / "context.pth")
    again = fdrn_adapter.load(tmp_path / "context.pth")
    assert again.image_encoder.context_channels == 8
    image = make_input(64, 96)[:, :3]
    with torch.no_grad():
        features = model.encode_image(image)
        assert torch.equal(again.encode_image(image).maps["context"], features.maps["context"])
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match="another image encoder"), \
            plain.recycling(features, [(0, 63, 0, 95)]):
        pass


@pytest.mark.parametrize(("options", "message"), [
    ({"context_channels": -1}, "number of channels"),
    ({"context_channels": True}, "number of channels"),
    ({"use_high": False}, "needs use_low=True and use_high=True"),
    ({"use_low": False}, "needs use_low=True and use_high=True"),
    ({"use_low": False, "use_high": False}, "without an encoder"),
])
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        wrapped(**options)
