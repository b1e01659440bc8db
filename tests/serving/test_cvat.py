"""CVAT: its agent's own driver asks the function; its own decoder reads the masks; nuclio."""

import base64
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image
from support.stock import picture, taught_host

import fdrn_adapter
from fdrn_adapter.serving import cvat
from fdrn_adapter.serving.bridge import PromptSession

EXAMPLE = Path(__file__).parents[2] / "examples" / "cvat_nuclio"
A, B, C = (96.0, 72.0), (100.0, 80.0), (200.0, 100.0)


@pytest.fixture(scope="module")
def model():
    return fdrn_adapter.wrap(taught_host("tiny"), init="paper")


def prompts(positive=(), negative=(), box=None):
    return SimpleNamespace(pos_points=positive, neg_points=negative, bounding_box=box)


def test_the_agents_driver_prepares_once_and_detects_twice(model, monkeypatch):
    pytest.importorskip("cvat_cli")
    driver = pytest.importorskip("cvat_cli._internal.agent_driver_interaction")
    from cvat_sdk.masks import decode_mask

    encoded = []
    hook = model.image_encoder.register_forward_pre_hook(lambda m, a: encoded.append(1))
    function = cvat.InteractionFunction(PromptSession(model, crop=64))
    monkeypatch.setattr(driver, "worker_current_function", lambda: function)
    driver.AgentInteractionFunctionDriver.init_worker(None)
    image = Image.fromarray(picture())
    shapes = [driver._worker_job_interact("task", image, prompts([A]))]
    for asked in (prompts([A], [C]), prompts([A, B], [C])):
        shapes.append(driver._worker_job_interact_from_cache("task", asked))
    boxed = driver._worker_job_interact_from_cache("task", prompts(box=((150, 90), (239, 159))))
    hook.remove()
    assert len(encoded) == 1
    bridge = PromptSession(model, crop=64)
    want = [bridge.predict(picture(), [A]), bridge.predict(picture(), [A], [C]),
            bridge.predict(picture(), [A, B], [C])]
    for (shape,), answer in zip(shapes, want, strict=True):
        assert shape.type == "mask"
        decoded = decode_mask(shape.points, image_width=240, image_height=160)
        assert np.array_equal(decoded, answer.mask) and decoded.any()
    inside = bridge.predict(picture(), box=(150, 90, 239, 159)).mask
    assert len(boxed) == inside.any()  # an empty mask is no shape
    assert all(np.array_equal(decode_mask(s.points, image_width=240, image_height=160), inside)
               for s in boxed)
    fields = driver.AgentInteractionFunctionDriver.get_remote_function_fields(function.spec)
    assert fields == {"min_pos_points": 0, "min_neg_points": 0, "startswith_box_optional": True}
    function._bridge.forget()  # as if it had been dropped to save memory
    (again,) = driver._worker_job_interact_from_cache("task", prompts([A]))
    assert again.points == shapes[0][0].points
    edge = driver._worker_job_interact_from_cache("task", prompts([(240.0, 160.0)]))
    assert isinstance(edge, list)
    assert driver._worker_job_interact_from_cache("task", prompts()) == []


def handler_module():
    spec = importlib.util.spec_from_file_location("fdrn_nuclio_main", EXAMPLE / "main.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nuclio_call(bridge, body):
    try:
        from nuclio_sdk import Response
    except ImportError:
        def Response(**kwargs):
            return SimpleNamespace(**kwargs)
    context = SimpleNamespace(user_data=SimpleNamespace(model=bridge), Response=Response)
    return handler_module().handler(context, SimpleNamespace(body=body))


def test_nuclios_handler_answers_with_mask_bounds_and_points(model):
    bridge = PromptSession(model, crop=64)
    image = cv2.imencode(".png", picture()[..., ::-1])[1]
    body = {"image": base64.b64encode(image).decode(), "pos_points": [A], "neg_points": [C],
            "obj_bbox": None}
    answer = nuclio_call(bridge, body)
    assert answer.status_code == 200 and answer.content_type == "application/json"
    found = json.loads(answer.body)
    left, top, right, bottom = found["bounds"]
    mask = np.zeros((160, 240), bool)
    mask[top : bottom + 1, left : right + 1] = np.array(found["mask"]) > 0
    assert np.array_equal(mask, PromptSession(model, crop=64).predict(picture(), [A], [C]).mask)
    assert set(np.unique(found["mask"])) <= {0, 255} and len(found["points"]) > 2
    body |= {"pos_points": [], "neg_points": [], "obj_bbox": [[150, 90], [239, 159]]}
    assert nuclio_call(bridge, json.dumps(body).encode()).status_code == 200
    for bad in ({**body, "image": "AAAA"}, {}, b"{", {**body, "obj_bbox": [[999, 0], [1000, 5]]}):
        assert nuclio_call(bridge, bad).status_code == 400
    taken_back = nuclio_call(bridge, {**body, "obj_bbox": []})  # the last click, in the interface
    assert json.loads(taken_back.body) == {"mask": [[0]], "bounds": [0, 0, 0, 0], "points": []}


def test_the_function_loads_a_network_and_its_yaml_is_what_nuclio_asks_for(model, monkeypatch):
    monkeypatch.setattr(
        cvat, "open_model", lambda name: SimpleNamespace(bridge=PromptSession(model, crop=64))
    )
    context = SimpleNamespace(user_data=SimpleNamespace())
    handler_module().init_context(context)
    assert isinstance(context.user_data.model, PromptSession)
    function = yaml.safe_load((EXAMPLE / "function.yaml").read_text())
    notes = function["metadata"]["annotations"]
    assert notes["type"] == "interactor"
    assert "startswith_box" not in notes  # strings, of which CVAT takes every one for true
    assert function["spec"]["handler"] == "main:handler"
    trigger = function["spec"]["triggers"]["myHttpTrigger"]
    assert trigger["attributes"]["maxRequestBodySize"] == 33554432
