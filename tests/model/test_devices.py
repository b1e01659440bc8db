"""Networks as they are (eager) on the device of FDRN_TEST_DEVICE, beside the CPU."""

import copy

import numpy as np
import pytest
import torch
from support.networks import build_host, enliven, make_input, make_points
from support.stock import CLICKS, picture, taught_host

import fdrn_adapter
from fdrn_adapter.features import Grid, ImageFeatures
from fdrn_adapter.grafts.click_encoder import split_current_click

pytestmark = pytest.mark.usefixtures("ritm")

POINTS = make_points([[20.3, 30.2, 0], [1, 2, 2], [63, 95, 3]], [[30, 60, 1], [22, 31, 4]])
ROIS = [(5, 80, 10, 140)]


@pytest.fixture(autouse=True)
def _float32():
    """TF32, which GPUs use for convolutions unless told otherwise, keeps 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def fdrn():
    model = fdrn_adapter.wrap(build_host(), encoder="hrnet18s", init="paper")
    with torch.no_grad():
        enliven(model)
        model.host.maps_transform.fuse.weight.normal_(0, 0.1)
        model.host.feature_extractor.cls_head.weight.mul_(100)
    return model.eval()


@torch.no_grad()
def logits(model, device):
    """Of a click that recycles and of one that encodes its crop, on the CPU."""
    image, x = make_input(100, 150)[:, :3].to(device), make_input(64, 96, seed=1).to(device)
    features = model.encode_image(image)
    with model.recycling(features, ROIS):
        first = model(x, POINTS.to(device))["instances"]
    second = model(x, POINTS.to(device))["instances"]
    assert {t.device.type for t in (first, second)} == {device.type}
    return first.cpu(), second.cpu()


def test_logits(device):
    model = fdrn()
    wanted = logits(model, torch.device("cpu"))
    got = logits(copy.deepcopy(model).to(device), device)
    assert (wanted[0] - wanted[1]).abs().max() > 1e-2  # the features are felt
    for a, b in zip(wanted, got, strict=True):
        assert (a - b).abs().max() < 1e-3 * a.abs().max()


@torch.no_grad()
def test_features_travel(device, tmp_path):
    """To the CPU, to a file, and back; a model elsewhere refuses them."""
    model = fdrn().to(device)
    features = model.encode_image(make_input(100, 150)[:, :3].to(device))
    assert all(m.device.type == device.type for m in features.maps.values())
    features.save(tmp_path / "features")
    back = ImageFeatures.load(tmp_path / "features", device)
    for name, m in features.maps.items():
        assert m.std() > 0 and torch.equal(m, back.maps[name])
        assert torch.equal(m.cpu(), features.to("cpu").maps[name])
    with model.recycling(back, ROIS):
        pass
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match="features are on meta"):
        with model.recycling(features.to("meta"), ROIS):
            pass


@torch.no_grad()
@pytest.mark.parametrize("separable", [False, True])
def test_alignment(device, separable):
    model = fdrn()
    features = model.encode_image(make_input(100, 150)[:, :3])
    where = ((64, 96), Grid(16), (4, 6), separable)
    found = []
    for f in (features, features.to(device)):
        with model.recycling(f, ROIS, anywhere=True) as recycling:
            found.append((recycling.affinity(*where).cpu(), recycling.low(*where).cpu()))
    for a, b in zip(*found, strict=True):
        assert a.std() > 0 and (a - b).abs().max() < 1e-4 * a.abs().max()


def test_current_click(device):
    for a, b in zip(split_current_click(POINTS), split_current_click(POINTS.to(device)),
                    strict=True):
        assert torch.equal(a, b.cpu())


@pytest.mark.parametrize("flip", [False, True])
def test_session_in_eager(device, flip):
    """Clicks, undo, a mask to start from, on the CPU and on the device."""
    model = fdrn_adapter.wrap(taught_host(), encoder="hrnet18s")
    found = []
    for where in ("cpu", device):
        session = fdrn_adapter.InteractiveSession(
            copy.deepcopy(model).to(where), "eager", crop=96, flip=flip
        )
        session.set_image(picture())
        masks = [session.add_click(col, row, positive) for row, col, positive in CLICKS[:3]]
        masks.append(session.undo())
        session.set_mask(masks[0])
        masks.append(session.add_click(96, 72))
        found.append(masks)
    assert len({m.tobytes() for m in found[0][:3]}) == 3
    assert np.array_equal(found[0][3], found[0][1])
    for a, b in zip(*found, strict=True):
        assert (a & b).sum() >= 0.999 * (a | b).sum()
