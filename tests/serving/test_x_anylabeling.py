"""X-AnyLabeling's own RemoteServer class asks `fdrn serve`."""

import numpy as np
import pytest
import yaml
from PIL import Image
from support.server import serving
from support.stock import picture, taught_host

import fdrn_adapter
from fdrn_adapter.outlines import filled
from fdrn_adapter.serving.bridge import PromptSession

pytest.importorskip("uvicorn")
tool_config = pytest.importorskip("anylabeling.config")
remote_server = pytest.importorskip("anylabeling.services.auto_labeling.remote_server")

A, B, C = [96, 72], [100, 80], [200, 100]


def test_its_remote_server_class_gets_polygons(tmp_path, monkeypatch):
    checkpoint, photo = tmp_path / "fdrn.pth", tmp_path / "photo.png"
    model = fdrn_adapter.wrap(taught_host("tiny"), init="paper")
    fdrn_adapter.save(model, checkpoint)
    Image.fromarray(picture()).save(photo)
    said = []
    config = {"type": "remote_server", "display_name": "FDRN", "name": "remote_server"}
    with serving(checkpoint, "--crop", "64", FDRN_TOKEN="secret") as served:
        settings(tmp_path, monkeypatch, server_url=served.url, api_key="secret")
        remote = remote_server.RemoteServer(config, said.append)
        (name,) = remote.get_available_models()
        remote.set_model_id(name)
        assert remote.get_batch_processing_mode() is None
        remote.set_mask_fineness(0)
        bridge = PromptSession(model, crop=64)
        for marks, prompts in [
            ([point(A, 1)], {"positive": [A]}),
            ([point(A, 1), point(C, 0)], {"positive": [A], "negative": [C]}),
            ([{"type": "rectangle", "data": [150, 90, 239, 159]}], {"box": (150, 90, 239, 159)}),
        ]:
            remote.set_auto_labeling_marks(marks)
            result = remote.predict_shapes(object(), str(photo))
            rings = [np.array([[p.x(), p.y()] for p in s.points]) for s in result.shapes]
            want = bridge.predict(picture(), **prompts).mask
            assert np.array_equal(filled(rings, want.shape), want)
            assert want.any() or "box" in prompts
            assert result.replace is False
    assert said == []


def settings(folder, monkeypatch, **remote_server):
    """What its user has in .xanylabelingrc, which it is told by, and where else it would look."""
    file = folder / ".xanylabelingrc"
    file.write_text(yaml.safe_dump({"remote_server_settings": remote_server}))
    monkeypatch.setattr(tool_config, "current_config_file", str(file))
    monkeypatch.setattr(tool_config, "_work_directory", str(folder))


def point(at, label):
    return {"type": "point", "data": at, "label": label}
