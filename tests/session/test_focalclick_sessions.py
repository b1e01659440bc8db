"""FocalClick FDRNs as models and in sessions: copies, files, undo, threads; real checkout only."""

import copy
import pickle

import numpy as np
import pytest
import torch
from support.focalclick import clickseg, focal_predictor_class, run_clicks, taught, zoom_in
from support.networks import make_object, make_points
from support.stock import CLICKS, check_threads_equal_serial, picture

import fdrn_adapter
from fdrn_adapter.session.predictor import recycling_predictor_for

KINDS = [("18s", "s1"), ("b0", "s2")]


@pytest.fixture(autouse=True, scope="module")
def checkout():
    with clickseg() as code_base:
        yield code_base


@pytest.fixture(params=KINDS, ids=lambda p: "-".join(p))
def model(request):
    return fdrn_adapter.wrap(taught(*request.param), init="paper")


@torch.no_grad()
def logits(net):
    return net(make_object()[0], make_points([[72, 96, 0]], [[10, 10, 1]]))["instances"]


def test_copies_and_files_compute_the_same(model, tmp_path):
    from isegm.inference.utils import load_is_model

    want = logits(model)
    assert torch.equal(logits(copy.deepcopy(model)), want)
    assert torch.equal(logits(pickle.loads(pickle.dumps(model))), want)
    fdrn_adapter.save(model, tmp_path / "m.pth")
    assert torch.equal(logits(fdrn_adapter.load(tmp_path / "m.pth")), want)
    assert torch.equal(logits(load_is_model(tmp_path / "m.pth", "cpu")), want)
    stored = torch.load(tmp_path / "m.pth", weights_only=True)
    stored["state_dict"].pop("sfi.conv.weight")
    torch.save(stored, tmp_path / "broken.pth")
    with pytest.raises(fdrn_adapter.CheckpointError, match="sfi.conv.weight"):
        fdrn_adapter.load(tmp_path / "broken.pth")


@pytest.mark.parametrize("init", ["identity", "paper"])
@pytest.mark.parametrize(("kind", "pipeline"), KINDS)
def test_unwrap_gives_the_host_back(kind, pipeline, init):
    host = taught(kind, pipeline)
    host.feature_extractor.train()  # a mixed mode must survive too
    keys, flags = list(host.state_dict()), [m.training for m in host.modules()]
    modules, weights = list(host.modules()), copy.deepcopy(host.state_dict())
    model = fdrn_adapter.wrap(host, init=init, copy=False)
    assert list(host.modules()) != modules
    back = fdrn_adapter.unwrap(model)
    assert back is host and list(back.modules()) == modules and list(back.state_dict()) == keys
    assert [m.training for m in back.modules()] == flags
    assert all(torch.equal(back.state_dict()[k], v) for k, v in weights.items())
    assert not any(m._forward_hooks for m in back.modules())


def test_session_is_the_stock_pipeline_and_undo_is_exact(model, capsys):
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    session.set_image(picture())
    probs = [session.prob]
    for row, col, positive in CLICKS[:4]:
        session.add_click(col, row, positive)
        probs.append(session.prob)
    predictor = recycling_predictor_for(
        focal_predictor_class(), model, "cpu", zoom_in=zoom_in(skip_clicks=-1), infer_size=64
    )
    want, _ = run_clicks(predictor, picture(), CLICKS[:4])
    assert np.abs(np.stack(probs[1:]) - want).max() < 1e-5
    assert not any(np.array_equal(a, b) for a, b in zip(probs, probs[1:], strict=False))
    for n in (3, 2, 1, 0):
        session.undo()
        assert np.array_equal(session.prob, probs[n])
    for n in (1, 2):
        session.redo()
        assert np.array_equal(session.prob, probs[n])
    row, col, positive = CLICKS[2]
    session.add_click(col, row, positive)
    assert np.array_equal(session.prob, probs[3])
    session.reset_object()
    assert not session.mask.any()
    row, col, positive = CLICKS[0]
    session.add_click(col, row, positive)
    assert np.array_equal(session.prob, probs[1])


def test_set_mask_is_where_corrections_start(model):
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    session.set_image(picture())
    session.add_click(96, 72)
    plain = session.prob
    mask = np.zeros(picture().shape[:2], bool)
    mask[50:90, 80:120] = True
    session.set_mask(mask)
    session.add_click(96, 72)
    assert not np.array_equal(session.prob, plain)
    session.undo()
    assert np.array_equal(session.mask, mask)


def test_one_encoding_over_clicks_objects_and_undo(model):
    seen = []
    model.image_encoder.register_forward_pre_hook(lambda m, a: seen.append(a[0].shape))
    session = fdrn_adapter.InteractiveSession(model, crop=64)
    for _ in range(2):
        session.set_image(picture())
        for row, col, positive in CLICKS[:3]:
            session.add_click(col, row, positive)
        session.undo()
        session.reset_object()
        session.add_click(100, 80)
    assert seen == [(1, 3, 160, 240)]


def test_mirrored_predictions_take_mirrored_features():
    host = taught("b0")
    want = fdrn_adapter.InteractiveSession(host, crop=64, flip=True)
    model = fdrn_adapter.wrap(host)
    seen = []
    model.image_encoder.register_forward_pre_hook(lambda m, a: seen.append(a[0]))
    got = fdrn_adapter.InteractiveSession(model, crop=64, flip=True)
    for session in (want, got):
        session.set_image(picture())
        session.add_click(96, 72)
        session.add_click(200, 100, positive=False)
    assert np.abs(got.prob - want.prob).max() < 1e-5 and want.prob.std() > 0.01
    ((image, mirror),) = seen
    assert torch.equal(image.flip(-1), mirror)


def test_the_default_crop_is_focalclicks():
    host = taught("b0")
    model = fdrn_adapter.wrap(host)
    assert fdrn_adapter.InteractiveSession(model).pipeline.predictor.crop_l == 256
    assert fdrn_adapter.InteractiveSession(host).pipeline.predictor.crop_l == 256


def test_baseline_predictor_recycles_too():
    from isegm.inference.predictors import BaselinePredictor

    host = taught("18s")
    model = fdrn_adapter.wrap(host)
    seen = []
    model.image_encoder.register_forward_pre_hook(lambda m, a: seen.append(1))
    stock = BaselinePredictor(host, "cpu", zoom_in=zoom_in(), infer_size=64)
    ours = recycling_predictor_for(
        BaselinePredictor, model, "cpu", zoom_in=zoom_in(), infer_size=64
    )
    want, _ = run_clicks(stock, picture(), CLICKS[:4])
    got, _ = run_clicks(ours, picture(), CLICKS[:4])
    assert np.abs(got - want).max() < 1e-5 and len(seen) == 1


def test_threads_with_different_images_equal_the_serial_result(model):
    check_threads_equal_serial(model, num_images=3, clicks=CLICKS[:3])
