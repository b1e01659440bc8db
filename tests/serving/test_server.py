"""The server's routes and limits, asked as tools ask them."""

import base64
import json
import threading

import cv2
import numpy as np
import pytest
from support.brushes import decoded_brush
from support.stock import NARROW, picture, taught_host

import fdrn_adapter
from fdrn_adapter.outlines import filled
from fdrn_adapter.serving.bridge import PromptSession

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from starlette.testclient import TestClient  # noqa: E402

from fdrn_adapter.serving.app import make_app  # noqa: E402
from fdrn_adapter.serving.guard import Limits  # noqa: E402
from fdrn_adapter.serving.models import ServedModel  # noqa: E402

A, B, C = [96, 72], [100, 80], [200, 100]


@pytest.fixture(scope="module")
def model():
    return fdrn_adapter.wrap(taught_host("tiny"), init="paper", **NARROW)


@pytest.fixture
def served(model):
    return ServedModel("tiny", PromptSession(model, crop=64))


@pytest.fixture
def client(served):
    with TestClient(make_app(served), base_url="http://localhost") as client:
        yield client


def encoded(image=None) -> str:
    image = picture() if image is None else image
    return base64.b64encode(cv2.imencode(".png", image[..., ::-1])[1]).decode()


def png(text: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(text), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED) > 0


def test_a_mask_and_then_one_more_click_by_the_images_key(client, model):
    bridge = PromptSession(model, crop=64)
    first = client.post("/segment", json={"image": encoded(), "positive": [A]}).json()
    want = bridge.predict(picture(), [A])
    assert np.array_equal(png(first["mask"]), want.mask) and want.mask.any()
    assert (first["width"], first["height"], first["computed"]) == (240, 160, 1)
    assert first["score"] == pytest.approx(want.score, abs=1e-4)
    body = {"image_key": first["image_key"], "positive": [A], "negative": [C]}
    second = client.post("/segment", json=body).json()
    assert second["clicks"] == [[*A, True], [*C, False]] and second["computed"] == 1
    want = bridge.predict(picture(), [A], [C]).mask
    assert np.array_equal(png(second["mask"]), want)
    for output in ("rle", "polygons"):
        other = client.post("/segment", json={**body, "output": output}).json()
        assert other["computed"] == 0
        if output == "polygons":
            rings = [r for part in other["mask"] for r in (part["border"], *part["holes"])]
            assert np.array_equal(filled([np.array(r) for r in rings], want.shape), want)
        else:
            counts = other["mask"]["counts"]
            flat = np.repeat(np.arange(len(counts)) % 2, counts)
            assert np.array_equal(flat.reshape(240, 160).T, want)


def test_boxes_masks_scribbles_and_peeks(client, model):
    bridge = PromptSession(model, crop=64)
    key = client.post("/segment", json={"image": encoded(), "positive": [A]}).json()["image_key"]
    start = np.zeros((160, 240, 3), np.uint8)
    start[50:90, 80:120] = 255
    line = [[80, 72], [110, 72]]
    for body, prompts in [
        ({"box": [150, 90, 239, 159]}, {"box": [150, 90, 239, 159]}),
        ({"mask": encoded(start), "positive": [B]}, {"mask": start[..., 0], "positive": [B]}),
        ({"scribbles": [{"points": line}]}, {"scribbles": [(line, True)]}),
        ({"positive": [A, B], "negative": [C], "previous": [[*A, True], [*C, False]]},
         {"positive": [A], "negative": [C]}),
    ]:
        want = bridge.predict(picture(), **prompts)
        if "previous" in body:
            want = bridge.predict(picture(), [A, B], [C])
        got = client.post("/segment", json={"image_key": key, **body}).json()
        assert np.array_equal(png(got["mask"]), want.mask), body
    got = client.post("/segment", json={"image_key": key, "positive": [A], "peek": [*C, False]})
    assert np.array_equal(png(got.json()["mask"]),
                          bridge.peek(*C, False, picture(), None, {"positive": [A]}))


@pytest.mark.parametrize(("body", "status", "code"), [
    ({}, 422, "no_image"), ({"image_key": "x", "positive": [A]}, 404, "unknown_image"),
    ({"image": "@@", "positive": [A]}, 422, "bad_base64"),
    ({"image": base64.b64encode(b"no picture").decode(), "positive": [A]}, 422, "bad_image"),
    ({"image": "PNG", "positive": [[999, 1]]}, 422, "bad_prompt"),
    ({"image": "PNG"}, 422, "bad_prompt"), ({"image": "PNG", "positive": "ab"}, 422, "bad_field"),
    ({"image": "PNG", "positive": [A], "output": "gif"}, 422, "bad_field"),
    ({"image": "PNG", "box": [1, 2]}, 422, "bad_prompt"),
    ({"image": "PNG", "positive": [A], "mask": "@"}, 422, "bad_base64"),
    ({"image": "PNG", "positive": [A], "previous": [[1]]}, 422, "bad_field"),
    ({"image": "CUT", "positive": [A]}, 422, "bad_prompt"),
])
def test_wrong_requests_get_a_code_and_a_text(client, body, status, code):
    if body.get("image") in ("PNG", "CUT"):
        data = encoded()
        body = {**body, "image": data if body["image"] == "PNG" else data[: len(data) // 8 * 4]}
    answer = client.post("/segment", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert len(answer.json()["error"]["message"]) > 10
    good = client.post("/segment", json={"image": encoded(), "positive": [A]})
    assert good.status_code == 200


def test_bodies_that_are_no_json_object(client):
    for data, code in ((b"{", "not_json"), (b"[]", "not_an_object"), (b"[" * 10**5, "not_json")):
        answer = client.post("/segment", content=data)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_limits_of_bodies_and_pixels(served):
    app = make_app(served, Limits(body_bytes=20_000, pixels=30_000))
    with TestClient(app, base_url="http://localhost") as client:
        large = client.post("/segment", content=b" " * 20_001)
        assert large.status_code == 413 and large.json()["error"]["code"] == "body_too_large"
        chunks = client.post("/segment", content=(b" " * 5000 for _ in range(5)))
        assert chunks.status_code == 413
        flat = encoded(np.zeros((400, 400, 3), np.uint8))
        pixels = client.post("/segment", json={"image": flat, "positive": [A]})
        assert pixels.status_code == 413 and "400 x 400 pixels" in pixels.json()["error"]["message"]
        small = encoded(np.zeros((80, 90, 3), np.uint8))
        assert client.post("/segment", json={"image": small, "positive": [[3, 3]]}).is_success


def test_tokens_and_hosts(served):
    with TestClient(make_app(served), base_url="http://localhost") as client:
        for host in ("localhost:9090", "127.0.0.1", "[::1]:80"):
            assert client.get("/v1/models", headers={"host": host}).is_success
        for host in ("evil.example", "localhost.evil.example", "", "a@evil"):
            answer = client.get("/v1/models", headers={"host": host})
            assert answer.status_code == 403, host
    with TestClient(make_app(served, Limits(token="secret"))) as client:
        assert client.get("/health").is_success
        basic = base64.b64encode(b"user:secret").decode()
        for headers in ({"Authorization": "Bearer secret"}, {"Authorization": "Token secret"},
                        {"Token": "secret"}, {"Authorization": f"Basic {basic}"}):
            assert client.get("/v1/models", headers=headers).is_success, headers
        for headers in ({}, {"Authorization": "Bearer other"}, {"Token": ""},
                        {"Authorization": "secret"}, {"Authorization": "Basic @@"}):
            answer = client.get("/v1/models", headers=headers)
            assert answer.status_code == 401, headers
            assert answer.json()["error"]["code"] == "bad_token"


def test_health_metrics_and_openapi(client):
    assert client.get("/health").json() == {"status": "UP", "model": "tiny", "engine": "eager"}
    client.post("/segment", json={"image": encoded(), "positive": [A, B]})
    client.get("/nothing")
    lines = client.get("/metrics").text.splitlines()
    assert 'fdrn_requests_total{route="/segment",status="200"} 1' in lines
    assert 'fdrn_requests_total{route="other",status="404"} 1' in lines
    assert 'fdrn_clicks_total{kind="computed"} 2' in lines and "fdrn_images 1" in lines
    assert 'fdrn_request_seconds_count{route="/segment"} 1' in lines
    document = client.get("/openapi.json").json()
    fields = document["paths"]["/segment"]["post"]["requestBody"]["content"]["application/json"]
    assert {"image", "positive", "previous", "peek"} <= set(fields["schema"]["properties"])
    for path, methods in document["paths"].items():
        for method in methods:
            assert client.request(method, path).status_code not in (404, 405), path


def test_many_users_at_once_get_their_own_masks(client, model):
    images = [np.roll(picture(), 30 * i, axis=1) for i in range(6)]
    clicks = [[[(96 + 30 * i) % 240, 72], [(100 + 30 * i) % 240, 80]] for i in range(6)]
    bridge = PromptSession(model, crop=64)
    pairs = list(zip(images, clicks, strict=True))
    want = [bridge.predict(image, points).mask for image, points in pairs]
    got = [None] * 6

    def user(i):
        client.post("/segment", json={"image": encoded(images[i]), "positive": clicks[i][:1]})
        got[i] = client.post("/segment", json={"image": encoded(images[i]), "positive": clicks[i]})

    threads = [threading.Thread(target=user, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(png(g.json()["mask"]), w) for g, w in zip(got, want, strict=True))


def test_too_many_waiting_requests_are_told_to_come_back(served, monkeypatch):
    entered, leave = threading.Event(), threading.Event()

    def slow(*args, **kwargs):
        entered.set()
        leave.wait(20)
        raise ValueError("done")

    monkeypatch.setattr(served.bridge, "predict", slow)
    with TestClient(make_app(served, Limits(waiting=1)), base_url="http://localhost") as client:
        body = {"image": encoded(), "positive": [A]}
        first = threading.Thread(target=client.post, args=("/segment",), kwargs={"json": body})
        first.start()
        assert entered.wait(20)
        answer = client.post("/segment", json=body)
        leave.set()
        first.join()
    assert answer.status_code == 503 and answer.headers["retry-after"] == "1"


def test_failures_inside_are_500_and_the_next_request_is_answered(client, served, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(served.bridge, "predict", lambda *a, **k: 1 / 0)
        answer = client.post("/segment", json={"image": encoded(), "positive": [A]})
        assert answer.status_code == 500
        assert "ZeroDivisionError" in answer.json()["error"]["message"]
    assert client.post("/segment", json={"image": encoded(), "positive": [A]}).is_success


def test_x_anylabelings_requests(client, model):
    models = client.get("/v1/models").json()["data"]
    assert {w["name"] for w in models["tiny"]["widgets"]} >= {"button_add_point", "button_clear"}
    marks = [{"type": "point", "data": A, "label": 1}, {"type": "point", "data": C, "label": 0}]
    body = {"model": "tiny", "image": "data:image/png;base64," + encoded(),
            "params": {"marks": marks, "epsilon_factor": 0}}
    shapes = client.post("/v1/predict", json=body).json()["data"]["shapes"]
    want = PromptSession(model, crop=64).predict(picture(), [A], [C]).mask
    rings = [np.array(s["points"]) for s in shapes]
    assert np.array_equal(filled(rings, want.shape), want)
    assert {(s["label"], s["shape_type"]) for s in shapes} == {("AUTOLABEL_OBJECT", "polygon")}
    body["params"] = {"marks": [{"type": "rectangle", "data": [150, 90, 239, 159]}],
                      "epsilon_factor": 0}
    shapes = client.post("/v1/predict", json=body).json()["data"]["shapes"]
    want = PromptSession(model, crop=64).predict(picture(), box=(150, 90, 239, 159)).mask
    assert np.array_equal(filled([np.array(s["points"]) for s in shapes], want.shape), want)
    body["params"] = {"marks": []}
    assert client.post("/v1/predict", json=body).json()["data"]["shapes"] == []
    body["params"] = {"marks": [{"type": "circle"}]}
    assert client.post("/v1/predict", json=body).json()["error"]["code"] == "bad_mark"
    assert client.post("/v1/predict", json={**body, "model": "sam"}).status_code == 404


CONFIG = """<View><Image name="img" value="$image"/><BrushLabels name="b" toName="img">
<Label value="cat"/></BrushLabels><KeyPointLabels name="k" toName="img" smart="true"/></View>"""


def region(kind, is_positive=1, **value):
    return {"type": kind, "original_width": 240, "original_height": 160, "image_rotation": 0,
            "is_positive": is_positive, "value": {**value, kind: ["cat"]}}


def point(x, y, positive=1):
    return region("keypointlabels", positive, x=(x + 0.5) / 2.4, y=(y + 0.5) / 1.6, width=0.3)


def label_studio_body(results, config=CONFIG):
    return {"tasks": [{"id": 1, "data": {"image": "data:image/png;base64," + encoded()}}],
            "label_config": config, "params": {"context": {"result": results}}}


def test_label_studios_requests(client, model):
    assert client.post("/setup", json={}).json() == {"model_version": "tiny"}
    assert client.post("/webhook", json={}).is_success
    (empty,) = client.post("/predict", json={"tasks": [{}]}).json()["results"]
    assert empty["result"] == []
    answer = client.post("/predict", json=label_studio_body([point(*A), point(*C, 0)])).json()
    (found,) = answer["results"][0]["result"]
    assert (found["from_name"], found["to_name"], found["type"]) == ("b", "img", "brushlabels")
    assert (found["original_width"], found["original_height"]) == (240, 160)
    want = PromptSession(model, crop=64).predict(picture(), [A], [C]).mask
    assert np.array_equal(decoded_brush(found["value"]["rle"], want.shape), want)
    polygons = CONFIG.replace("BrushLabels", "PolygonLabels")
    answer = client.post("/predict", json=label_studio_body([point(*A)], polygons)).json()
    rings = [np.array(r["value"]["points"]) * [2.4, 1.6] for r in answer["results"][0]["result"]]
    want = PromptSession(model, crop=64).predict(picture(), [A]).mask
    got = filled(rings, want.shape)
    assert (got & want).sum() / (got | want).sum() > 0.9
    box = region("rectanglelabels", x=62.71, y=56.56, width=37.08, height=43.13)
    found = client.post("/predict", json=label_studio_body([box])).json()["results"][0]["result"]
    want = PromptSession(model, crop=64).predict(picture(), box=(150, 90, 239, 159)).mask
    assert len(found) == want.any()
    assert all(np.array_equal(decoded_brush(r["value"]["rle"], want.shape), want) for r in found)


@pytest.mark.parametrize(("change", "code"), [
    ({"label_config": "<View"}, "bad_config"), ({"label_config": "<View/>"}, "bad_config"),
    ({"label_config": "<!DOCTYPE a><View/>"}, "bad_config"),
    ({"tasks": [{"data": {}}]}, "no_image"),
    ({"tasks": [{"data": {"image": "/data/upload/1.png"}}]}, "no_label_studio"),
])
def test_label_studios_mistakes(client, change, code):
    answer = client.post("/predict", json={**label_studio_body([point(*A)]), **change})
    assert answer.json()["error"]["code"] == code


def test_brushes_are_what_label_studios_own_converter_reads():
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    from fdrn_adapter.serving.brush_rle import brush_rle

    rng = np.random.default_rng(0)
    for shape in ((5, 7), (64, 300), (300, 400)):
        for mask in (rng.random(shape) > 0.5, np.zeros(shape, bool), np.ones(shape, bool)):
            got = brush.decode_rle(brush_rle(mask)).reshape(*shape, 4)[..., 3]
            assert np.array_equal(got > 0, mask)


def test_the_openapi_document_is_json(client):
    json.dumps(client.get("/openapi.json").json())
