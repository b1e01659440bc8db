"""The real Label Studio asks `fdrn serve` (FDRN_LABEL_STUDIO: its command, if not on the path).

FDRN_SCREENSHOTS names a folder for a picture of it; FDRN_PHOTO a photograph to be clicked at, with
a place in FDRN_PLACES ("x,y"), and then the default network is asked. FDRN_CHROMIUM names a
browser.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.brushes import decoded_brush
from support.server import serving
from support.stock import picture, taught_host

import fdrn_adapter
from fdrn_adapter import zoo
from fdrn_adapter.serving.bridge import PromptSession

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.slow

TOKEN = "0123456789abcdef0123456789abcdef01234567"
USER = {"email": "a@b.example", "password": "secret123"}
CONFIG = """<View><Image name="img" value="$image"/>
<BrushLabels name="brush" toName="img" smart="false"><Label value="object"/></BrushLabels>
<KeyPointLabels name="point" toName="img" smart="true" smartOnly="true"><Label value="object"/>
</KeyPointLabels></View>"""
A, C = (96, 72), (200, 100)
PLACE = os.environ.get("FDRN_PLACES", "96,72").split()[0]
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
         "--username", USER["email"], "--password", USER["password"], "--user-token", TOKEN],
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


@contextlib.contextmanager
def connected(label_studio, tmp_path, photo=None):
    """A project with one photograph and the network: numbers of its task and backend, and a bridge
    with the same network."""
    url, client = label_studio
    if photo:
        model, options = zoo.load("distilled-hrnet18s"), {}
        served_model, arguments = "distilled-hrnet18s", []
    else:
        model, options = fdrn_adapter.wrap(taught_host("tiny"), init="paper"), {"crop": 64}
        served_model, arguments = tmp_path / "fdrn.pth", ["--crop", "64"]
        fdrn_adapter.save(model, served_model)
    project = posted(client, "/api/projects", json={"title": "FDRN", "label_config": CONFIG})["id"]
    data = Path(photo).read_bytes() if photo else \
        cv2.imencode(".png", picture()[..., ::-1])[1].tobytes()
    posted(client, f"/api/projects/{project}/import", files={"file": ("a.png", data, "image/png")})
    task = client.get("/api/tasks", params={"project": project}).json()["tasks"][0]
    assert task["data"]["image"].startswith("/data/upload/")
    with serving(served_model, *arguments, "--label-studio", url,
                 LABEL_STUDIO_API_KEY=TOKEN) as served:
        backend = posted(client, "/api/ml", json={
            "url": served.url, "project": project, "title": "FDRN", "is_interactive": True})
        yield task, backend["id"], PromptSession(model, **options), data


def test_project_import_connect_and_an_interactive_request(label_studio, tmp_path):
    with connected(label_studio, tmp_path) as (task, backend, bridge, _):
        drawn = [point(*A, 1), point(*C, 0)]
        found = posted(label_studio[1], f"/api/ml/{backend}/interactive-annotating",
                       json={"task": task["id"], "context": {"result": drawn}})
    (region,) = found["data"]["result"]
    assert (region["from_name"], region["to_name"]) == ("brush", "img")
    want = bridge.predict(picture(), [A], [C]).mask
    assert np.array_equal(decoded_brush(region["value"]["rle"], want.shape), want) and want.any()


def test_a_click_in_chromium_becomes_an_annotation(label_studio, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    browser = os.environ.get("FDRN_CHROMIUM") or shutil.which("chromium")
    if not browser:
        pytest.skip("there is no chromium; FDRN_CHROMIUM names one")
    url, client = label_studio
    folder = Path(os.environ.get("FDRN_SCREENSHOTS", tmp_path))
    with connected(label_studio, tmp_path, os.environ.get("FDRN_PHOTO")) as given, \
            playwright.sync_playwright() as p:
        task, _, bridge, data = given
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        program = p.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = program.new_page(viewport={"width": 1200, "height": 1000})
        page.set_default_timeout(240_000)
        drawn = click_there(page, url, task, image.shape[:2], folder / "label_studio.png")
        program.close()
    (annotation,) = client.get(f"/api/tasks/{task['id']}").json()["annotations"]
    (region,) = annotation["result"]  # the point goes when its mask is accepted
    clicked = [drawn[axis] / 100 * n - 0.5
               for axis, n in zip("xy", image.shape[1::-1], strict=True)]
    assert np.allclose(clicked, [float(v) for v in PLACE.split(",")], atol=2)
    want = bridge.predict(image, [clicked]).mask
    found = decoded_brush(region["value"]["rle"], want.shape)
    assert np.array_equal(found, want) and want.any()


def click_there(page, url, task, size, screenshot):
    """What a user does: log in, open the task, choose the smart tool, click, accept, submit; the
    point that the tool made of the click."""
    page.goto(f"{url}/user/login/")
    for name, text in USER.items():
        page.fill(f"input[name={name}]", text)
    page.click("button[type=submit]")
    page.wait_for_url(lambda there: "login" not in there)
    page.goto(f"{url}/projects/{task['project']}/data?task={task['id']}")
    page.get_by_test_id("bottombar-auto-annotation-toggle").click()
    page.locator(".lsf-label", has_text="object").last.click()
    page.locator(".lsf-tool_smart").first.click()
    image = page.locator("canvas").first
    image.evaluate("canvas => canvas.scrollIntoView({block: 'center'})")
    page.wait_for_timeout(1000)
    box = page.locator("img[alt=image]").bounding_box()
    x, y = (float(v) + 0.5 for v in PLACE.split(","))
    with page.expect_request(lambda sent: "interactive-annotating" in sent.url) as sent:
        page.mouse.click(box["x"] + x * box["width"] / size[1],
                         box["y"] + y * box["height"] / size[0])
    accept = page.get_by_test_id("bottombar-accept-suggestions-button")
    accept.wait_for()
    page.wait_for_timeout(1000)
    page.screenshot(path=screenshot)
    accept.click()
    with page.expect_response(lambda answer: "/annotations" in answer.url and answer.ok):
        page.get_by_test_id("bottombar-submit-button").click()
    (drawn,) = sent.value.post_data_json["context"]["result"]
    return drawn["value"]


def point(x, y, positive):
    return {
        "id": f"p{x}", "from_name": "point", "to_name": "img", "type": "keypointlabels",
        "original_width": 240, "original_height": 160, "image_rotation": 0,
        "is_positive": positive,
        "value": {"x": (x + 0.5) / 2.4, "y": (y + 0.5) / 1.6, "width": 0.3,
                  "keypointlabels": ["object"]},
    }
