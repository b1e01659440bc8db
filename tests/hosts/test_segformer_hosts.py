"""SegFormer hosts by structure, on a double; the real ones are in tests/*/test_focalclick_*.py."""

import copy

import pytest
import torch
from support.networks import make_input, make_points
from support.segformer_double import SegFormerModel

import fdrn_adapter


def host_of(pipeline):
    torch.manual_seed(0)
    return SegFormerModel(pipeline).eval()


@pytest.mark.parametrize("pipeline", ["s1", "s2"])
def test_identity_and_two_channel_click_maps(pipeline):
    host = host_of(pipeline)
    model = fdrn_adapter.wrap(host)
    assert model.info.family == "segformer" and model.info.pipeline == pipeline
    assert model.info.fdrn_crop == 256 and model._settings["encoder"] == "segformer_b0"
    assert model.encoder_source == "host"
    x = make_input(70, 90, batch=2)
    points = make_points([[30, 40, 0], [35, 60, 2]], [[10, 80, 1]]).repeat(2, 1, 1)
    with torch.no_grad():
        want, got = host(x, points), model(x, points)
        features = model.encode_image(make_input(120, 140)[:, :3])
        with model.recycling(features, [[10, 110, 20, 130]] * 2, image_index=[0, 0]):
            recycled = model(x, points)
    for outputs in (got, recycled):
        assert all((outputs[k] - want[k]).abs().max() < 1e-5 for k in want)
        assert torch.equal(outputs["click_map"], want["click_map"])
        assert outputs["click_map"].shape[1] == 2


def test_s1_places_features_on_the_halved_crop():
    model = fdrn_adapter.wrap(host_of("s1"))
    assert model.info.network_size((256, 129)) == (128, 64)
    assert fdrn_adapter.wrap(host_of("s2")).info.network_size((256, 129)) == (256, 129)


def test_paper_init_recycles_and_feels_the_current_click():
    model = fdrn_adapter.wrap(host_of("s2"), init="paper")
    x = make_input()
    clicks = [make_points([[30, 40, i], [12, 70, 1 - i]]) for i in (0, 1)]
    with torch.no_grad():
        first, second = (model(x, points)["instances"] for points in clicks)
        features = model.encode_image(make_input(120, 140, seed=3)[:, :3])
        with model.recycling(features, [[10, 110, 20, 130]]):
            recycled = model(x, clicks[0])["instances"]
    assert (first - second).abs().max() > 1e-4  # the same disks, another one current
    assert (first - recycled).abs().max() > 1e-4


def test_unwrap_restores_the_host():
    host = host_of("s1")
    before, modules = copy.deepcopy(host.state_dict()), list(host.modules())
    back = fdrn_adapter.unwrap(fdrn_adapter.wrap(host, copy=False))
    assert back is host and list(back.modules()) == modules
    assert all(torch.equal(v, before[k]) for k, v in back.state_dict().items())
    assert not any(m._forward_hooks for m in back.modules())


def test_what_is_missing_is_named():
    host = host_of("s2")
    del host.feature_extractor.backbone.block3
    with pytest.raises(fdrn_adapter.UnsupportedHostError, match=r"SegFormerModel .*\.block3"):
        fdrn_adapter.wrap(host)
    host = host_of("s2")
    del host.feature_extractor.backbone.patch_embed_side1
    with pytest.raises(fdrn_adapter.UnsupportedHostError, match="patch_embed_side1"):
        fdrn_adapter.wrap(host)
