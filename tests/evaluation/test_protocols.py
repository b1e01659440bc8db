"""The loop against the stock evaluation, and what each protocol does."""

import numpy as np
import pytest
import torch
from support.evaluation_data import pictures, trimap_of, two_objects
from support.networks import as_array, build_host, make_object, teach
from support.stock import NARROW, taught_host

import fdrn_adapter
from fdrn_adapter.evaluation.clicks import FALSE
from fdrn_adapter.evaluation.datasets.sample import as_sample, joined
from fdrn_adapter.evaluation.methods.brs import BrsSegmenter
from fdrn_adapter.evaluation.methods.networks import NetworkSegmenter
from fdrn_adapter.evaluation.protocols import run_sample
from fdrn_adapter.evaluation.settings import Settings, parse_protocols
from fdrn_adapter.label_maps import trimap


@pytest.fixture(scope="module")
def host():
    pytest.importorskip("ritm_annotation")
    return taught_host("tiny", crop=64)


@pytest.fixture(scope="module")
def fdrn(host):
    """Its identity wrap with the residual branches woken up, so that both differ."""
    return woken(fdrn_adapter.wrap(host, encoder="hrnet18s", **NARROW))


@torch.no_grad()
def woken(model):
    for name, parameter in model.named_parameters():
        if not parameter.any() and "weight" in name:
            parameter.fill_(0.05)
    return model.eval()


@pytest.fixture(scope="module")
def samples():
    """Two, with an ignored border."""
    return [
        as_sample(f"p{i}", image, trimap(trimap_of(mask)))
        for i, (image, mask) in enumerate(pictures(2, 112, 144))
    ]


def stock_ious(model, sample, eval_mode: str, flip: bool, clicks: int) -> tuple:
    """The stock evaluation of one sample: clicks (row, col, positive) and IoUs."""
    from ritm_annotation.inference.evaluation import evaluate_sample
    from ritm_annotation.inference.predictors.base import BasePredictor
    from ritm_annotation.inference.transforms import ZoomIn

    from fdrn_adapter.session.predictor import recycling_class

    options = {"target_size": 400}
    if eval_mode != "cvpr":
        side = int(eval_mode.removeprefix("fixed"))
        options = {"skip_clicks": -1, "target_size": (side, side)}
    fdrn = getattr(model, "is_fdrn", False)
    predictor = (recycling_class(BasePredictor) if fdrn else BasePredictor)(
        model, torch.device("cpu"), zoom_in=ZoomIn(**options), with_flip=flip
    )
    done, ious, _ = evaluate_sample(
        sample.image, sample.mask.astype(np.int32), predictor, max_iou_thr=1.01, pred_thr=0.49,
        max_clicks=clicks,
    )
    return [(*map(int, c.coords), bool(c.is_positive)) for c in done], ious


def check_against_stock(model, sample, eval_mode, flip, clicks):
    segmenter = NetworkSegmenter("x", model, eval_mode=eval_mode, flip=flip)
    expected_clicks, expected = stock_ious(model, sample, eval_mode, flip, clicks)
    (record,) = run_sample("noc", segmenter, sample, Settings(max_clicks=clicks))
    assert [(y, x, p) for x, y, p in record["clicks"]] == expected_clicks
    assert record["ious"] == [float(value) for value in expected]
    assert len(set(record["ious"])) > 2 and max(record["ious"]) > 0.1


@pytest.mark.parametrize("kind", ["stock", "fdrn"])
@pytest.mark.parametrize("flip", [True, False])
def test_equals_the_stock_evaluation(host, fdrn, samples, kind, flip):
    """Same clicks and same IoU, for every image and click (Must-show 1)."""
    for sample in samples:
        check_against_stock({"stock": host, "fdrn": fdrn}[kind], sample, "fixed64", flip, 4)


def test_equals_the_stock_evaluation_with_its_zoom_in(ritm):
    """Mode cvpr: crops with a longest side of 400, near the size the last layer is fitted at."""
    image, mask = make_object(208, 304)
    host = build_host("tiny")
    teach(host, image, mask)
    sample = as_sample("p", as_array(image), trimap(trimap_of(mask.numpy())))
    for model in (host, woken(fdrn_adapter.wrap(host, encoder="hrnet18s", **NARROW))):
        check_against_stock(model, sample, "cvpr", False, 3)


def test_the_settings_of_the_comparison_matter(host, fdrn, samples):
    def ious(model, **options):
        segmenter = NetworkSegmenter("x", model, **options)
        return run_sample("noc", segmenter, samples[0], Settings(max_clicks=1))[0]["ious"]

    runs = [ious(host), ious(fdrn), ious(host, flip=True), ious(host, eval_mode="fixed64"),
            ious(fdrn, eval_mode="cvpr")]
    assert len({tuple(run) for run in runs}) == 5
    assert runs[0] == ious(host, eval_mode="cvpr")  # a stock network's default
    assert runs[1] == ious(fdrn, eval_mode="fixed288")


def test_target_iou_ends_a_sample_except_in_long(host, samples):
    segmenter = NetworkSegmenter("x", host, eval_mode="fixed64")
    (free,) = run_sample("noc", segmenter, samples[0], Settings(max_clicks=5))
    target = max(free["ious"][:4])
    reached = free["ious"].index(target) + 1
    settings = Settings(max_clicks=5, target_iou=target - 1e-6)
    (stopped,) = run_sample("noc", segmenter, samples[0], settings)
    assert stopped["ious"] == free["ious"][:reached] and reached < 5
    assert len(stopped["ms"]) == len(stopped["clicks"]) == reached
    (long,) = run_sample("long", segmenter, samples[0], settings)
    assert long["ious"] == free["ious"]
    assert all(ms > 0 for ms in long["ms"]) and long["encode_ms"] > 0


def test_misleading_is_the_same_for_every_model(host, fdrn, samples):
    settings = Settings(max_clicks=8, seed=5)
    records = {}
    for name, model in (("stock", host), ("fdrn", fdrn)):
        segmenter = NetworkSegmenter(name, model, eval_mode="fixed64")
        for sample in samples[:: 1 if name == "stock" else -1]:  # in any order
            records[name, sample.id] = run_sample("misleading", segmenter, sample, settings)[0]
    definitions = {key: record["misleading"] for key, record in records.items()}
    for sample in samples:
        assert definitions["stock", sample.id] == definitions["fdrn", sample.id]
        assert len(definitions["stock", sample.id]) == 2  # a quarter, as 5 of 20
    assert definitions["stock", "p0"] != definitions["stock", "p1"]
    assert records["stock", "p0"]["ious"] != records["fdrn", "p0"]["ious"]
    honest = run_sample("noc", NetworkSegmenter("x", host, eval_mode="fixed64"), samples[0],
                        settings)[0]
    first = definitions["stock", "p0"][0]["number"] - 1
    ours = records["stock", "p0"]["clicks"]
    assert ours[:first] == honest["clicks"][:first] and ours[first] != honest["clicks"][first]


def test_false_clicks_are_at_the_right_place_with_the_wrong_sign(host):
    image, mask = next(pictures(1))
    segmenter = NetworkSegmenter("x", host, eval_mode="fixed64")
    for n in range(40):  # a sample whose first click is a false one
        sample = as_sample(f"s{n}", image, mask.astype(np.int32))
        (record,) = run_sample("misleading", segmenter, sample, Settings(max_clicks=1))
        if record["misleading"][0]["kind"] == FALSE:
            break
    (honest,) = run_sample("noc", segmenter, sample, Settings(max_clicks=1))
    (x, y, positive), = honest["clicks"]
    assert record["clicks"] == [[x, y, not positive]]


def test_multi_encodes_once_for_all_objects(host, fdrn):
    image, _ = next(pictures(1))
    parts = [as_sample(f"m#{i}", image, (two_objects() == i).astype(np.int32)) for i in (1, 4)]
    sample = joined("m", parts)
    encoded = []
    hook = fdrn.image_encoder.register_forward_hook(lambda *a: encoded.append(1))
    settings = Settings(max_clicks=3)
    segmenter = NetworkSegmenter("x", fdrn, eval_mode="fixed64")
    records = run_sample("multi", segmenter, sample, settings)
    assert len(encoded) == 1
    assert [r["id"] for r in records] == ["m#1", "m#4"] and {r["image"] for r in records} == {"m"}
    assert "encode_ms" in records[0] and "encode_ms" not in records[1]
    alone = [run_sample("noc", segmenter, part, settings)[0] for part in parts]
    hook.remove()
    assert len(encoded) == 3  # an image that was seen before is encoded, and timed, anew
    assert [r["ious"] for r in records] == [r["ious"] for r in alone]
    assert records[0]["ious"] != records[1]["ious"]


def test_brs_runs_stock_networks_and_refuses_fdrns(host, fdrn, samples):
    pytest.importorskip("scipy")
    fdrn_adapter.codebase.activate("ritm_annotation")
    plain = NetworkSegmenter("x", host, eval_mode="fixed64")
    (reference,) = run_sample("noc", plain, samples[0], Settings(max_clicks=3))
    for method in ("brs", "fbrs"):
        segmenter = BrsSegmenter("x", host, method, eval_mode="fixed64")
        (record,) = run_sample("noc", segmenter, samples[0], Settings(max_clicks=3))
        assert len(record["ious"]) == 3 and record["ious"] != reference["ious"]
        (again,) = run_sample("noc", segmenter, samples[0], Settings(max_clicks=3))
        assert again["ious"] == record["ious"]  # nothing is left of the sample before
        with pytest.raises(ValueError, match="this is an FDRN, which encodes it once"):
            BrsSegmenter("x", fdrn, method)


def test_bad_settings():
    with pytest.raises(ValueError, match="Unknown protocol 'nco'. Did you mean 'noc'"):
        parse_protocols("noc,nco")
    with pytest.raises(ValueError, match="--protocol is empty"):
        parse_protocols(" ,")
    assert parse_protocols("long, noc,long") == ["long", "noc"]
    for bad in ({"max_clicks": 0}, {"target_iou": 90}, {"target_iou": 0}):
        with pytest.raises(ValueError, match="should be"):
            Settings(**bad)
    for mode in ("fixed", "fixedx", "fixed8", "stock"):
        with pytest.raises(ValueError, match="Unknown evaluation mode"):
            NetworkSegmenter("x", None, eval_mode=mode)
