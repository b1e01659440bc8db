"""The real Label Studio asks `fdrn serve` (FDRN_LABEL_STUDIO: its command, if not on the path)."""

import os
import shutil
import socket
import subprocess
import time

import cv2
import numpy as np
import pytest
from support.brushes import decoded_brush
from support.server import serving
from support.stock import picture, taught_host

import fdrn_adapter
from fdrn_adapter.serving.bridge import PromptSession

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

TOKEN = "0123456789abcdef0123456789abcdef01234567"
CONFIG = """<View><Image name="img" value="$image"/><BrushLabels name="brush" toName="img">
<Label value="cat"/></BrushLabels><KeyPointLabels name="point" toName="img" smart="true">
<Label value="cat"/></KeyPointLabels></View>"""
A, C = (96, 72), (200, 100)
MINUTES = 15  # until it has made its database


@pytest.fixture(scope="module")
def label_studio(tmp_path_factory):
    """Its address, and a client with a token."""
    command = os.environ.get("FDRN_LABEL_STUDIO") or shutil.which("label-studio")
    if not command:
        pytest.skip("label-studio is not installed; FDRN_LABEL_STUDIO names its command")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ, "LABEL_STUDIO_BASE_DATA_DIR": str(tmp_path_factory.mktemp("label_studio")),
        "ML_BLOCK_LOCAL_IP": "false", "SSRF_PROTECTION_ENABLED": "false",
        "COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
    }
    process = subprocess.Popen(
        [command, "start", "--no-browser", "--enable-legacy-api-token", "--port", str(port),
         "--internal-host", "127.0.0.1",
         "--username", "a@b.example", "--password", "secret123", "--user-token", TOKEN],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60 * MINUTES
        while True:
            try:
                httpx.get(f"{url}/health", timeout=10).raise_for_status()
                break
            except httpx.HTTPError:
                if process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(2)
        headers = {"Authorization": f"Token {TOKEN}"}
        with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
            yield url, client
    finally:
        process.terminate()
        process.wait(60)


def posted(client, path, **given):
    answer = client.post(path, **given)
    assert answer.is_success, f"{path}: {answer.status_code} {answer.text[:500]}"
    return answer.json()


def test_project_import_connect_and_an_interactive_request(label_studio, tmp_path):
    url, client = label_studio
    model = fdrn_adapter.wrap(taught_host("tiny"), init="paper")
    fdrn_adapter.save(model, tmp_path / "fdrn.pth")
    project = posted(client, "/api/projects", json={"title": "t", "label_config": CONFIG})["id"]
    data = cv2.imencode(".png", picture()[..., ::-1])[1].tobytes()
    posted(client, f"/api/projects/{project}/import", files={"file": ("a.png", data, "image/png")})
    task = client.get("/api/tasks", params={"project": project}).json()["tasks"][0]
    assert task["data"]["image"].startswith("/data/upload/")
    with serving(tmp_path / "fdrn.pth", "--crop", "64", "--label-studio", url,
                 LABEL_STUDIO_API_KEY=TOKEN) as served:
        backend = posted(client, "/api/ml", json={
            "url": served.url, "project": project, "title": "FDRN", "is_interactive": True})
        drawn = [point(*A, 1), point(*C, 0)]
        found = posted(client, f"/api/ml/{backend['id']}/interactive-annotating",
                       json={"task": task["id"], "context": {"result": drawn}})
    (region,) = found["data"]["result"]
    assert (region["from_name"], region["to_name"]) == ("brush", "img")
    want = PromptSession(model, crop=64).predict(picture(), [A], [C]).mask
    assert np.array_equal(decoded_brush(region["value"]["rle"], want.shape), want) and want.any()


def point(x, y, positive):
    return {
        "id": f"p{x}", "from_name": "point", "to_name": "img", "type": "keypointlabels",
        "original_width": 240, "original_height": 160, "image_rotation": 0,
        "is_positive": positive,
        "value": {"x": (x + 0.5) / 2.4, "y": (y + 0.5) / 1.6, "width": 0.3,
                  "keypointlabels": ["cat"]},
    }
