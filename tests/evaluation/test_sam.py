"""SAM-layout pairs: small graphs of the same interfaces, and a real pair where one is given."""

import os
import sys

import cv2
import numpy as np
import pytest
from support import sam_graphs
from support.sam_graphs import SIDE

from fdrn_adapter.encoders import sam_image
from fdrn_adapter.evaluation.methods import sam, sam_layout

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ROWS, COLS = 24, 48  # the long side grows to 64


@pytest.fixture
def image():
    rows, cols = np.mgrid[:ROWS, :COLS]
    return np.stack([rows * 6, cols * 4, rows + cols], axis=2).astype(np.uint8)


@pytest.fixture(autouse=True)
def gray_mean(monkeypatch):
    """Black is the padding's value, so that the decoders' mean of the embeddings stays small."""
    monkeypatch.setattr(sam_graphs, "STD", (5e4, 5e4, 5e4))
    monkeypatch.setattr(sam_image, "STD", np.float32([5e4, 5e4, 5e4]))


def make(tmp_path, image=None, encoder=None, **decoder):
    enc = sam_graphs.encoder(tmp_path / "enc.onnx", **(encoder or {}))
    dec = sam_graphs.decoder(tmp_path / "dec.onnx", **decoder)
    method = sam.build(f"sam:{enc},{dec}", threads=1)
    if image is not None:
        method.set_image(image)
    return method


def centre(prob):
    return np.argwhere(prob > 0.5).mean(0)[::-1]  # x, y


def test_a_click_makes_a_blob_where_it_is(tmp_path, image):
    method = make(tmp_path, image)
    assert method.name == f"sam:{tmp_path}/enc.onnx,{tmp_path}/dec.onnx"
    prob = method.add_click(30, 10, True)
    assert prob.shape == (ROWS, COLS) and prob.dtype == np.float32
    assert np.abs(centre(prob) - (30, 10)).max() < 0.6
    # The blob's radius, where 20 exp(-d^2 / 2 w^2) = 5, in pixels of this image.
    radius = sam_graphs.WIDTH_PX * (2 * np.log(4)) ** 0.5 * COLS / SIDE
    assert (prob[10] > 0.5).sum() == pytest.approx(2 * radius, abs=2)


@pytest.mark.parametrize("shape", [(24, 48), (48, 24), (200, 130), (40, 40), (7, 90)])
def test_coordinates_on_images_of_any_shape(tmp_path, shape):
    method = make(tmp_path, np.full((*shape, 3), 120, np.uint8))
    x, y = round(shape[1] * 0.5), round(shape[0] * 0.5)
    prob = method.add_click(x, y, True)
    assert prob.shape == shape
    assert np.abs(centre(prob) - (x, y)).max() < 0.03 * max(shape)


def test_negative_clicks_and_new_objects(tmp_path, image):
    method = make(tmp_path, image)
    first = method.add_click(30, 10, True)
    second = method.add_click(34, 10, False)
    assert first[10, 34] > 0.5 > second[10, 34]
    method.start_object()
    assert (method.add_click(30, 10, True) == first).all()


def test_the_mask_is_fed_back_from_the_second_click_on(tmp_path, image):
    method = make(tmp_path, image)
    method.add_click(30, 10, True)
    low_res = method._low_res
    prompts = []
    prepare = method._prompts
    method._prompts = lambda: prompts.append(prepare()) or prompts[-1]
    with_mask = method.add_click(12, 12, True)
    assert (prompts[0]["mask_input"][0, 0] == low_res).all() and low_res.any()
    assert prompts[0]["has_mask_input"].tolist() == [1]
    assert (method._low_res != low_res).any()
    method._clicks, method._low_res = method._clicks[:1], None
    without = method.add_click(12, 12, True)
    assert prompts[1]["has_mask_input"].tolist() == [0] and not prompts[1]["mask_input"].any()
    assert with_mask[10, 30] > without[10, 30]


def test_the_padding_point(tmp_path, image):
    method = make(tmp_path, image)
    method.add_click(30, 12, True)
    prompts = method._prompts()
    np.testing.assert_allclose(prompts["point_coords"], [[[40, 16], [0, 0]]])
    assert prompts["point_labels"].tolist() == [[1, -1]]
    assert prompts["orig_im_size"].tolist() == [ROWS, COLS]


def test_a_decoder_with_a_fixed_number_of_points(tmp_path, image):
    method = make(tmp_path, image, points=4)
    method.add_click(30, 10, True)
    assert method._prompts()["point_labels"].tolist() == [[1, -1, -1, -1]]
    for x in (3, 4, 5, 6):
        prob = method.add_click(x, 10, False)
    prompts = method._prompts()  # the first click and the latest two
    np.testing.assert_allclose(prompts["point_coords"][0, :3, 0], np.float32([30, 5, 6]) * 64 / 48)
    assert prompts["point_labels"].tolist() == [[1, 0, 0, -1]] and prob[10, 30] > 0.5


@pytest.mark.parametrize("masks, one_click, two_clicks", [(1, 0, 0), (3, 0, 0), (4, 2, 0)])
def test_which_mask_is_taken(tmp_path, image, masks, one_click, two_clicks):
    method = make(tmp_path, image, masks=masks)
    chosen = []
    best = method._best
    method._best = lambda *args: chosen.append(best(*args)) or chosen[-1]
    method.add_click(30, 10, True)
    method.add_click(20, 10, True)
    assert chosen == [one_click, two_clicks]


def test_several_masks_without_a_score(tmp_path, image):
    method = make(tmp_path, image, masks=3, drop=("iou_predictions",))
    with pytest.raises(ValueError, match="3 masks and no iou_predictions"):
        method.add_click(30, 10, True)


def test_a_decoder_without_low_resolution_masks(tmp_path, image):
    method = make(tmp_path, image, low_res=False)
    assert not method.layout.feeds_back
    assert method.add_click(30, 10, True).shape == (ROWS, COLS)
    method.add_click(20, 10, True)
    assert not method._prompts()["has_mask_input"].any()


ENCODERS = {
    "normalised outside": {},
    "any batch and size": {"shape": ["b", 3, "h", "w"]},
    "inside, padded by us": {"normalises": True},
    "inside, of 0..1": {"normalises": True, "top": 1.0},
    "rows x cols x 3": {"name": "input_image", "shape": ["h", "w", 3], "normalises": True},
    "bytes": {"shape": ["h", "w", 3], "normalises": True, "dtype": 2},
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_encoder_sees_the_same_image(tmp_path, image, monkeypatch, kind):
    monkeypatch.setattr(sam_graphs, "STD", sam_graphs.MEAN)
    monkeypatch.setattr(sam_image, "STD", sam_image.MEAN)
    method = make(tmp_path, encoder=ENCODERS[kind])
    monkeypatch.setattr(sam_layout, "SIDE", SIDE)
    method.set_image(image)
    seen = next(iter(method._embeddings.values())).reshape(3, -1)
    resized = cv2.resize(image, (64, 32), interpolation=cv2.INTER_LINEAR)
    wanted = (resized.astype(np.float32) / sam_image.MEAN - 1).transpose(2, 0, 1)
    rows = seen.shape[1] // 64
    seen = seen.reshape(3, rows, 64)
    assert rows == (32 if "3" in kind or kind == "bytes" else 64)
    np.testing.assert_allclose(seen[:, :32], wanted, atol=1e-5)
    assert np.abs(seen[:, 32:]).max(initial=0) < 1e-5  # padding is the mean colour
    assert np.abs(wanted).max() > 0.5


def test_without_onnx_the_usual_exports_are_known(tmp_path, image, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    found = {kind: sam_image._normalisation(tmp_path / "any", "input") for kind in ENCODERS}
    assert set(found.values()) == {(None, 255.0)}
    monkeypatch.undo()
    wants = {}
    for kind in ("normalised outside", "rows x cols x 3", "bytes"):
        enc = sam_graphs.encoder(tmp_path / "e.onnx", **ENCODERS[kind])
        dec = sam_graphs.decoder(tmp_path / "d.onnx")
        with monkeypatch.context() as patch:
            patch.setattr(sam_image, "_normalisation", lambda *_: (None, 255.0))
            wants[kind] = sam.build(f"sam:{enc},{dec}").layout.image.normalised
    assert wants == {"normalised outside": True, "rows x cols x 3": False, "bytes": False}


def test_hq_sam_hands_on_intermediate_embeddings(tmp_path, image):
    method = make(tmp_path, image, encoder={"outputs": ("image_embeddings", "interm_embeddings")},
                  extra=("interm_embeddings",))
    assert method.layout.embeddings == {
        "image_embeddings": "image_embeddings", "interm_embeddings": "interm_embeddings"}
    assert np.abs(centre(method.add_click(30, 10, True)) - (30, 10)).max() < 0.6


def test_efficient_sam(tmp_path, image):
    enc = sam_graphs.encoder(
        tmp_path / "enc.onnx", "batched_images", ["b", 3, "h", "w"], normalises=True, top=1.0,
        outputs=("image_embeddings",))
    dec = sam_graphs.efficient_decoder(tmp_path / "dec.onnx", ROWS, COLS)
    method = sam.build(f"sam:{enc},{dec}")
    method.set_image(image)
    seen = method._embeddings["image_embeddings"]
    wanted = (image.astype(np.float32) - sam_graphs.MEAN) / sam_graphs.STD
    np.testing.assert_allclose(seen[0], wanted.transpose(2, 0, 1), atol=1e-6)
    prob = method.add_click(30, 12, True)
    assert np.abs(centre(prob) - (30, 12)).max() < 0.6
    assert prob.max() == pytest.approx(1 / (1 + np.exp(-15)))  # the mask with the best score
    prompts = method._prompts()
    assert prompts["batched_point_coords"].tolist() == [[[[30, 12]]]]
    assert prompts["orig_im_size"].dtype == np.int64
    for x in range(1, 9):
        method.add_click(x, 3, False)
    kept = method._prompts()["batched_point_coords"][0, 0, :, 0]
    assert kept.tolist() == [30, 4, 5, 6, 7, 8]  # of nine clicks the graph would read the first 6


def test_errors(tmp_path, image, monkeypatch):
    enc, dec = sam_graphs.encoder(tmp_path / "enc.onnx"), sam_graphs.decoder(tmp_path / "dec.onnx")
    with pytest.raises(ValueError, match="should be sam:ENCODER.onnx,DECODER.onnx"):
        sam.build(f"sam:{enc}")
    with pytest.raises(ValueError, match="no ONNX file .*missing.onnx"):
        sam.build(f"sam:{enc},{tmp_path}/missing.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ValueError, match="text.onnx is not a graph"):
        sam.build(f"sam:{tmp_path}/text.onnx,{dec}")
    with pytest.raises(sam_layout.SamLayoutError, match=r"takes image_embeddings.*Expected.*first"):
        sam.build(f"sam:{dec},{enc}")
    with pytest.raises(sam_layout.SamLayoutError, match="RGB image"):
        gray = sam_graphs.encoder(tmp_path / "gray.onnx", shape=(1, 1, SIDE, SIDE))
        sam.build(f"sam:{gray},{dec}")
    with pytest.raises(sam_layout.SamLayoutError, match="interm_embeddings"):
        hq = sam_graphs.decoder(tmp_path / "hq.onnx", extra=("interm_embeddings",))
        sam.build(f"sam:{enc},{hq}")
    with pytest.raises(sam_layout.SamLayoutError, match="SAM 2"):
        sam2 = sam_graphs.decoder(tmp_path / "sam2.onnx", extra=("high_res_feats_0",))
        sam.build(f"sam:{enc},{sam2}")
    with pytest.raises(RuntimeError, match="set_image"):
        sam.build(f"sam:{enc},{dec}").add_click(1, 1, True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"fdrn_adapter\[onnxruntime\]"):
        sam.build(f"sam:{enc},{dec}")


@pytest.mark.skipif("FDRN_SAM_ONNX" not in os.environ, reason="FDRN_SAM_ONNX=ENC,DEC is not set")
def test_a_real_pair_segments_a_shape(monkeypatch):
    monkeypatch.undo()  # its normalisation is ImageNet's
    rows, cols = np.mgrid[:240, :320]
    inside = (rows - 120) ** 2 + (cols - 200) ** 2 < 60**2
    image = np.where(inside[..., None], (210, 120, 40), (40, 90, 60))
    image = (image + np.random.default_rng(0).normal(0, 6, image.shape)).clip(0, 255)
    method = sam.build("sam:" + os.environ["FDRN_SAM_ONNX"])
    method.set_image(image.astype(np.uint8))
    for click in ((200, 120, True), (40, 40, False), (180, 100, True)):
        found = method.add_click(*click) > 0.5
    assert (found & inside).sum() / (found | inside).sum() > 0.9
