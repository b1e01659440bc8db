"""One encoding per image: counted, shared, and never seen by another thread."""

import threading

import numpy as np
import pytest
import torch
from support.networks import build_host, make_input, make_points
from support.stock import base_predictor, picture, run_clicks, taught_host, zoom_in

import fdrn_adapter
from fdrn_adapter.features import recycling, roi
from fdrn_adapter.session.predictor import recycling_predictor_for

pytestmark = pytest.mark.usefixtures("ritm")
POINTS = make_points([[30, 40, 0]], [[10, 80, 1]])
BOX = (20, 140, 30, 200)


def lively_model(host=None, **options):
    """An FDRN whose image features matter: not identity, everything random."""
    host = build_host("tiny") if host is None else host
    return fdrn_adapter.wrap(host, init="paper", encoder="hrnet18s", **options)


@pytest.fixture
def counted(monkeypatch):
    """Counters of F1 runs, ROI Align and affinity calls."""
    counts = {"encode": 0, "align": 0, "affinity": 0}
    align, affinity = roi.align, recycling.affinity

    def count(name, function):
        def counting(*args, **kwargs):
            counts[name] += 1
            return function(*args, **kwargs)
        return counting

    monkeypatch.setattr(recycling.roi, "align", count("align", align))
    monkeypatch.setattr(recycling, "affinity", count("affinity", affinity))

    def watch(model):
        model.image_encoder.register_forward_pre_hook(
            lambda module, args: counts.__setitem__("encode", counts["encode"] + 1)
        )
        return counts
    return watch


@torch.no_grad()
def logits(model, x, points=POINTS):
    return model(x, points)["instances"]


def test_recycled_features_matter_and_depend_on_the_roi():
    model = lively_model()
    crop = make_input(96, 96)
    with torch.no_grad():
        a = model.encode_image(make_input(160, 240, seed=1)[:, :3])
        b = model.encode_image(make_input(160, 240, seed=2)[:, :3])
    results = []
    for features, box in ((a, BOX), (b, BOX), (a, (0, 159, 0, 239))):
        with model.recycling(features, [box]):
            results.append(logits(model, crop))
    assert (results[0] - results[1]).abs().max() > 1e-4
    assert (results[0] - results[2]).abs().max() > 1e-4


def test_without_features_the_crop_is_its_own_image():
    model = lively_model()
    x = make_input(96, 128)
    alone = logits(model, x)
    with torch.no_grad():
        features = model.encode_image(x[:, :3])
    with model.recycling(features, [(0, 95, 0, 127)]):
        assert torch.equal(logits(model, x), alone)


def test_one_encoding_over_clicks_objects_and_undo(counted):
    session = fdrn_adapter.InteractiveSession(lively_model(taught_host("tiny")), crop=96)
    counts = counted(session.model)
    image = picture()
    session.set_image(image)
    for first in (0, 7, 14):  # 3 objects, 20 clicks
        for i in range(first, min(first + 7, 20)):
            session.add_click(60 + 5 * i, 40 + 4 * i, i % 3 != 2)
        if first == 7:
            session.undo()
        session.reset_object()
    session.set_image(image.copy())  # the same content again
    session.add_click(100, 70)
    assert counts["encode"] == 1
    session.set_image(image[:, ::-1])
    assert counts["encode"] == 2


def test_unchanged_roi_is_aligned_once(counted):
    model = lively_model()
    counts = counted(model)
    crop = make_input(96, 96)
    with torch.no_grad():
        features = model.encode_image(make_input(160, 240)[:, :3])
    for click in range(5):
        with model.recycling(features, [BOX]):
            logits(model, crop, make_points([[30 + click, 40, click]]))
    assert counts == {"encode": 1, "align": 3, "affinity": 1}  # low, key and query
    with model.recycling(features, [(0, 159, 0, 239)]):
        logits(model, crop)
    assert counts["align"] == 6 and counts["affinity"] == 2
    with model.recycling(features, [BOX]):  # back, as undo goes
        logits(model, crop)
        logits(model, make_input(64, 96))  # another crop size is another alignment
    assert counts["align"] == 9 and counts["affinity"] == 3


def test_session_aligns_again_only_when_the_roi_moves(counted):
    model = fdrn_adapter.wrap(taught_host(), encoder="hrnet18s")
    counts = counted(model)
    session = fdrn_adapter.InteractiveSession(model, crop=96)
    session.pipeline.predictor.zoom_in.min_crop_size = 30
    session.set_image(picture())
    rois = []
    for x, y in ((96, 72), (100, 80), (90, 65), (97, 73)):
        session.add_click(x, y)
        rois.append(session.pipeline.state.shown)
    assert len(set(rois)) == 2 and counts["affinity"] == 2 and counts["align"] == 6


def test_cached_alignment_is_not_used_where_gradients_flow():
    model = lively_model()
    model.train()
    x = make_input(96, 96, batch=2)
    features = model.encode_image(make_input(160, 240, batch=2)[:, :3])
    assert features.weights == ""
    with model.recycling(features, [BOX, BOX]):
        with torch.no_grad():
            model(x, POINTS.repeat(2, 1, 1))
        model(x, POINTS.repeat(2, 1, 1))["instances"].square().mean().backward()
    assert model.image_encoder.backbone.conv1.weight.grad.abs().sum() > 0


def test_batch_mixes_images_and_rois():
    model = lively_model()
    crops = make_input(96, 96, batch=3)
    with torch.no_grad():
        one = model.encode_image(make_input(160, 240, seed=1)[:, :3])
        two = model.encode_image(make_input(120, 130, seed=2)[:, :3])
    boxes, index = [BOX, (0, 119, 10, 100), (0, 159, 0, 239)], [0, 1, 0]
    with model.recycling([one, two], boxes, index):
        together = logits(model, crops, POINTS.repeat(3, 1, 1))
    for b in range(3):
        with model.recycling((one, two)[index[b]], [boxes[b]]):
            alone = logits(model, crops[b : b + 1])
        assert (together[b] - alone[0]).abs().max() < 1e-4


def test_threads_with_different_images_never_mix():
    model = lively_model()
    crop = make_input(64, 64)
    with torch.no_grad():
        encodings = [model.encode_image(make_input(96, 128, seed=s)[:, :3]) for s in range(2)]

    def run(features, out):
        for i in range(6):
            box = (i, 90, 0, 120)
            with model.recycling(features, [box]):
                out.append(logits(model, crop))

    serial, threaded = [[], []], [[], []]
    for features, out in zip(encodings, serial, strict=True):
        run(features, out)
    assert (serial[0][0] - serial[1][0]).abs().max() > 1e-4
    threads = [
        threading.Thread(target=run, args=pair) for pair in zip(encodings, threaded, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(serial, threaded, strict=True):
        assert len(a) == len(b)
        assert all((x - y).abs().max() < 1e-5 for x, y in zip(a, b, strict=True))


def test_recycling_ends_with_the_context_also_after_an_error():
    model = lively_model()
    x = make_input(96, 96)
    alone = logits(model, x)
    with torch.no_grad():
        features = model.encode_image(make_input(160, 240, seed=5)[:, :3])
    with pytest.raises(ZeroDivisionError), model.recycling(features, [BOX]):
        raise ZeroDivisionError
    assert torch.equal(logits(model, x), alone)
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match="2 rois, and a batch of 1"):
        with model.recycling(features, [BOX, BOX]):
            logits(model, x)


def test_features_save_load_to_and_half(tmp_path):
    model = lively_model()
    with torch.no_grad():
        features = model.encode_image(make_input(160, 240)[:, :3])
    assert features.nbytes == sum(4 * m.numel() for m in features.maps.values())
    features.save(tmp_path / "features.pt")
    loaded = fdrn_adapter.ImageFeatures.load(tmp_path / "features.pt")
    assert loaded.image_size == (160, 240) and loaded.weights == features.weights != ""
    x = make_input(96, 96)
    with model.recycling(features, [BOX]):
        want = logits(model, x)
    with model.recycling(loaded, [BOX]):
        assert torch.equal(logits(model, x), want)
    half = features.to(torch.float16)
    assert half.nbytes == features.nbytes // 2
    with model.recycling(half, [BOX]):
        assert (logits(model, x) - want).abs().max() < 0.05
    fdrn_adapter.save(model, tmp_path / "model.pth")
    with pytest.raises(fdrn_adapter.CheckpointError, match="does not hold image features"):
        fdrn_adapter.ImageFeatures.load(tmp_path / "model.pth")


def test_features_of_another_model_weights_or_size_are_refused():
    model = lively_model()
    with torch.no_grad():
        features = model.encode_image(make_input(96, 96)[:, :3])
    other = fdrn_adapter.wrap(build_host("tiny"), encoder="hrnet18s", b_low=0, b_high=1)
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match="another image encoder"):
        with other.recycling(features, [(0, 95, 0, 95)]):
            pass
    with torch.no_grad():
        model.image_encoder.backbone.conv1.weight.mul_(2)
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match="with other weights"):
        with model.recycling(features, [(0, 95, 0, 95)]):
            pass
    again = model.image_encoder.fingerprint()
    assert again != features.weights and again == model.image_encoder.fingerprint()
    model.double().float()  # buffers are new tensors now, and still watched
    assert again == model.image_encoder.fingerprint()
    with torch.no_grad():
        model.image_encoder.backbone.bn1.running_mean.add_(1)
    assert again != model.image_encoder.fingerprint()
    with pytest.raises(fdrn_adapter.FeatureMismatchError, match="come from model.encode_image"):
        with model.recycling(torch.zeros(1, 3, 4, 4), [(0, 95, 0, 95)]):
            pass
    with pytest.raises(ValueError, match="reaches out of the image"):
        with torch.no_grad(), model.recycling(
            model.encode_image(make_input(64, 64)[:, :3]), [(0, 95, 0, 95)]
        ):
            pass


@pytest.mark.parametrize(("image", "message"), [
    (torch.rand(1, 4, 32, 32), r"shape \(B, 3, H, W\).*without previous mask"),
    (torch.rand(3, 32, 32), r"shape \(B, 3, H, W\)"),
    ((torch.rand(1, 3, 32, 32) * 255).byte(), r"image.float\(\) / 255"),
    (torch.rand(1, 3, 32, 32) * 255, r"un-normalised RGB in \[0, 1\]; values run from"),
    (torch.randn(1, 3, 32, 32), r"do not normalise"),
])
def test_encode_image_refuses(image, message):
    with pytest.raises(ValueError, match=message):
        lively_model().encode_image(image)


def test_large_images_are_capped_and_still_placed_in_image_pixels():
    model = lively_model(encoder_max_side=128)
    with torch.no_grad():
        features = model.encode_image(make_input(200, 256)[:, :3])
        assert features.input_size == (100, 128) and features.image_size == (200, 256)
        uncapped = model.encode_image(make_input(200, 256)[:, :3], max_side=256)
        assert uncapped.input_size == (200, 256)
    with model.recycling(features, [(100, 199, 128, 255)]):
        logits(model, make_input(96, 96))
    with pytest.raises(ValueError, match="200 rows and 256 columns"):
        with model.recycling(features, [(100, 200, 128, 255)]):
            pass


def test_predictor_uses_mirrored_features_for_the_mirrored_image():
    """With flip, swapping picture and mirror image must give the mirrored result."""


    model = lively_model(taught_host("tiny"))
    image = picture()
    last = image.shape[1] - 1
    clicks = [(72, 96, True), (80, 100, True), (100, 200, False)]
    flipped = [(r, last - c, p) for r, c, p in clicks]

    def predict(image, clicks):
        predictor = recycling_predictor_for(
            base_predictor(), model, "cpu", with_flip=True,
            zoom_in=zoom_in("ritm_annotation", crop=64, skip_clicks=50),  # stays whole
        )
        return run_clicks(predictor, image, clicks)[0]

    got, mirrored = predict(image, clicks), predict(image[:, ::-1].copy(), flipped)
    assert got.std() > 0.01
    assert np.abs(got - mirrored[:, :, ::-1]).max() < 1e-4
