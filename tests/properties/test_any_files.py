"""Any bytes into each of our readers: what they hold, or a documented error, and nothing else.

FDRN_FUZZ_FILES: so many files for each reader instead of some (2000 take some minutes).
"""

import io
import json
import os
import warnings

import cv2
import numpy as np
import pytest
import torch
from fdrn_adapter.examples import onnx_click
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.networks import build_host
from support.stock import picture, taught_host

import fdrn_adapter
from fdrn_adapter import ImageFeatures, coco, label_maps
from fdrn_adapter.evaluation.journal import Journal
from fdrn_adapter.images import as_rgb
from fdrn_adapter.serving import messages
from fdrn_adapter.training import state
from fdrn_adapter.training.batched import resumable
from fdrn_adapter.training.batched.embeddings import _read_manifest
from fdrn_adapter.weight_files import read_weights

pytestmark = pytest.mark.usefixtures("ritm")
EXAMPLES = int(os.environ.get("FDRN_FUZZ_FILES", "12"))
OPTIONS = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)
COUNT = {}


def written(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def pictures():
    image = picture()[40:88, 60:124]
    deep = image.astype(np.uint16) * 200
    made = [cv2.imencode(kind, image)[1].tobytes() for kind in (".png", ".jpg", ".bmp", ".tiff",
                                                                ".webp", ".ppm")]
    made += [cv2.imencode(kind, deep)[1].tobytes() for kind in (".png", ".tiff")]
    palette = Image.fromarray(image).quantize(7)
    return [*made, written(lambda b: palette.save(b, "PNG")),
            written(lambda b: Image.fromarray(image).convert("1").save(b, "TIFF"))]


def tensors():
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    parts = {"weights": net.state_dict(), "optimizer": optimizer.state_dict()}
    contents = [
        {"format": state._FORMAT, "epoch": 1, **parts},
        {"format": resumable._FORMAT, "step": 1, "seen": 2, "curve": [[1.0]], "sums": [0.0],
         "seconds": 1.0, "plan": {}, **parts},
        net.state_dict(),
    ]
    return [written(lambda b, c=content: torch.save(c, b)) for content in contents]


def small_checkpoint(tmp):
    path = tmp / "small.pth"
    net = build_host("tiny")
    fdrn_adapter.save(net, path)
    stored = torch.load(path, weights_only=True)
    stored["state_dict"] = dict(list(stored["state_dict"].items())[:3])  # quick to refuse
    return [written(lambda b: torch.save(stored, b))]


CONFIG = {"models": {}, "datasets": {}}
JOURNAL = [b"".join(json.dumps(line).encode() + b"\n" for line in (
    {"kind": "config", "config": CONFIG},
    {"kind": "sample", "model": "a", "dataset": "d", "protocol": "noc", "index": 0,
     "record": {"id": "x", "ious": [0.5], "encode_ms": 1.0, "click_ms": [2.0]}},
))]
COCO = [json.dumps({
    "images": [{"id": 1, "height": 8, "width": 9, "file_name": "a.png"}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[1, 1, 6, 1, 6, 6]]},
        {"id": 2, "image_id": 1, "iscrowd": 1,
         "segmentation": {"size": [8, 9], "counts": [10, 20, 42]}}],
}).encode()]
HEAD = {"format": "f", "encoder": "e"}
MANIFEST = [json.dumps({**HEAD, "images": {"a" * 64: {"file": "a.npy", "sha256": "b" * 64}}})
            .encode()]
META = [json.dumps({"format": onnx_click.FORMAT, "files": {}}).encode()]


@st.composite
def damaged(draw, corpus):
    """A good file with some bytes changed, cut, doubled, moved or put in; or any bytes."""
    data = bytearray(draw(st.sampled_from(corpus)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        end = min(len(data), at + draw(st.integers(1, 64)))
        kind = draw(st.sampled_from(["bit", "bytes", "cut", "drop", "twice", "insert", "number"]))
        if kind == "bit" and data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "bytes":
            data[at:end] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "cut":
            del data[at:]
        elif kind == "drop":
            del data[at:end]
        elif kind == "twice":
            data[at:at] = data[at:end]
        elif kind == "number":
            data[at:end] = draw(st.sampled_from(
                [b"1e999", b"-1", b"null", b"NaN", b"[[[", b"{}", b'"', b"\xff\xff\xff\xff"]))
        else:
            data[at:at] = draw(st.binary(max_size=40))
    return bytes(data)


def any_file(corpus):
    return st.one_of(damaged(corpus), damaged(corpus), damaged(corpus), st.binary(max_size=300))


def attempt(name, read, errors):
    """One file; warnings of the libraries are theirs."""
    total, refused = COUNT.get(name, (0, 0))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = read()
    except errors as error:
        assert str(error)
        COUNT[name] = total + 1, refused + 1
        return None
    COUNT[name] = total + 1, refused
    return found


@pytest.fixture(scope="module", autouse=True)
def figures():
    yield
    print("\n" + "\n".join(f"{n}: {a} files, {b} refused" for n, (a, b) in COUNT.items()))


@OPTIONS
@given(data=any_file(pictures()))
@example(data=b"P6 99999 99999 255 ")
@example(data=b"BM" + b"\xff" * 60)
def test_pictures(data, tmp_path_factory):
    image = attempt("picture", lambda: as_rgb(data), ValueError)
    assert image is None or (image.dtype == np.uint8 and image.ndim == 3 and image.size)
    path = tmp_path_factory.getbasetemp() / "any.png"
    path.write_bytes(data)
    labels = attempt("label map", lambda: label_maps.read_label_map(path), ValueError)
    if labels is not None:
        attempt("labels", lambda: label_maps.instance_labels(labels), ValueError)
        attempt("trimap", lambda: label_maps.trimap(labels), ValueError)


@OPTIONS
@given(data=any_file(pictures()))
def test_pictures_that_are_sent(data):
    attempt("request", lambda: messages.checked_picture(data, 10**6), messages.RequestError)


@OPTIONS
@given(data=any_file(tensors()))
def test_files_of_tensors(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.pth"
    path.write_bytes(data)
    for name, read in (("training state", state.read), ("state of fdrn train", resumable.read),
                       ("weights", read_weights), ("features", ImageFeatures.load)):
        attempt(name, lambda r=read: r(path), fdrn_adapter.CheckpointError)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    pytest.importorskip("ritm_annotation")
    return small_checkpoint(tmp_path_factory.mktemp("checkpoints"))


@OPTIONS
@given(data=st.data())
def test_checkpoints(data, checkpoints, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "checkpoint.pth"
    path.write_bytes(data.draw(any_file(checkpoints)))
    attempt("checkpoint", lambda: fdrn_adapter.load(path), fdrn_adapter.CheckpointError)


@pytest.fixture(scope="module")
def session():
    pytest.importorskip("ritm_annotation")
    torch.manual_seed(0)
    model = fdrn_adapter.wrap(taught_host("tiny", 32), init="paper", encoder="hrnet18s").eval()
    made = fdrn_adapter.InteractiveSession(model, crop=32)
    made.set_image(picture()[:40, :60])
    return made


@OPTIONS
@given(data=st.data())
def test_states_of_sessions(data, session, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "state.npz"
    session.set_image(session.image)
    session.add_click(20, 20)
    session.add_object("second")
    session.set_mask(np.indices((40, 60)).sum(0) % 7 < 3)
    session.save_state(path)
    path.write_bytes(data.draw(any_file([path.read_bytes()])))
    before = (session.objects, session.clicks, session.prob.tobytes())
    errors = (fdrn_adapter.CheckpointError, ValueError)
    total, refused = COUNT.get("session state", (0, 0))
    attempt("session state", lambda: session.load_state(path), errors)
    if COUNT["session state"][1] > refused:
        assert (session.objects, session.clicks, session.prob.tobytes()) == before


@OPTIONS
@given(data=any_file(JOURNAL))
@example(data=JOURNAL[0].splitlines()[0] + b"\n" + b"[" * 100_000 + b"\n")
def test_journals(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    path.write_bytes(data)
    journal = attempt("journal", lambda: Journal(path.parent, CONFIG, True), ValueError)
    if journal is not None:
        journal.close()


@OPTIONS
@given(data=any_file(COCO))
@example(data=b"[" * 100_000)
@example(data=COCO[0].replace(b'"height": 8', b'"height": 1e999'))
def test_coco_files(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(data)
    images = attempt("COCO", lambda: coco.read_coco(path), coco.CocoError)
    for image in images or ():
        if 0 < image.size[0] * image.size[1] < 10**6:
            attempt("COCO masks", image.label_map, coco.CocoError)


@OPTIONS
@given(data=st.one_of(any_file(MANIFEST), any_file(META)))
@example(data=b"[" * 100_000)
def test_manifests(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "meta.json"
    path.write_bytes(data)
    attempt("manifest of encode", lambda: _read_manifest(path, HEAD), ValueError)
    attempt("manifest of export", lambda: onnx_click.read_meta(path.parent), ValueError)


@OPTIONS
@given(data=any_file([b'{"image": "aGVsbG8=", "clicks": [[1, 2, true]]}']))
@example(data=b"[" * 100_000)
def test_requests(data):
    attempt("body", lambda: messages.parsed(data), messages.RequestError)
