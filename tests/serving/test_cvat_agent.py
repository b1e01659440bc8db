"""CVAT's real command line runs an agent against a stand-in of CVAT's server on loopback."""

import io
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from support.stock import picture, taught_host

import fdrn_adapter
from fdrn_adapter.serving.bridge import PromptSession

pytest.importorskip("cvat_cli")
pytestmark = pytest.mark.slow

A, C = [96.0, 72.0], [200.0, 100.0]
DATE = "2026-01-01T00:00:00Z"


class StandIn(BaseHTTPRequestHandler):
    """What an agent asks of a server with one function, one task and a queue of requests."""

    queue: list = []
    completed: list = []
    asked: list = []

    def do_GET(self):
        path = urlsplit(self.path).path.rstrip("/")
        self.asked.append(path)
        answers = {
            "/api/server/about": {"name": "CVAT", "description": "", "version": "2.80.0",
                                  "logo_url": "", "subtitle": ""},
            "/api/functions/7": {
                "id": 7, "name": "FDRN", "kind": "interactor", "provider": "native",
                "min_pos_points": 1, "min_neg_points": 0, "startswith_box": False,
                "startswith_box_optional": True},
            "/api/tasks/1": {
                "id": 1, "name": "task", "size": 1, "data_chunk_size": 1, "mode": "annotation",
                "data_original_chunk_type": "imageset", "data_compressed_chunk_type": "imageset",
                "organization": None, "created_date": DATE, "updated_date": DATE, "url": "http://localhost/api/tasks/1",
                "jobs": {"count": 1, "completed": 0, "validation": 0,
                         "url": "http://localhost/api/jobs?task_id=1"},
                "labels": {"url": "http://localhost/api/labels?task_id=1"}},
            "/api/labels": {"count": 0, "next": None, "previous": None, "results": []},
            "/api/tasks/1/data/meta": {
                "size": 1, "start_frame": 0, "stop_frame": 0, "deleted_frames": [],
                "image_quality": 70, "frame_filter": "", "chunk_size": 1,
                "chunks_updated_date": DATE,
                "frames": [{"width": 240, "height": 160, "name": "a.png", "related_files": 0}]},
        }
        if path == "/api/tasks/1/data":
            buffer = io.BytesIO()
            Image.fromarray(picture()).save(buffer, "PNG")
            return self.answer(buffer.getvalue(), "image/png")
        if path in answers:
            return self.answer(json.dumps(answers[path]).encode())
        self.send_error(404)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = urlsplit(self.path).path.rstrip("/")
        if path.endswith("/acquire"):
            interactive = body["request_category"] == "interactive"
            found = self.queue.pop(0) if self.queue and interactive else None
            return self.answer(json.dumps({"ar_assignment": found}).encode())
        self.completed.append((path.rpartition("/")[2], body))
        self.answer(b"{}")

    def answer(self, data, kind="application/json"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def asks(number, positive, negative=(), box=()):
    return {"ar_id": str(number), "ar_params": {
        "type": "interact", "task": 1, "frame": 0, "pos_points": positive,
        "neg_points": list(negative), "obj_bbox": list(box)}}


def test_the_command_line_prepares_an_image_once_and_completes_its_requests(tmp_path):
    from cvat_sdk.masks import decode_mask

    model = fdrn_adapter.wrap(taught_host("tiny"), init="paper")
    fdrn_adapter.save(model, tmp_path / "fdrn.pth")
    StandIn.queue[:] = [asks(1, [A]), asks(2, [A], [C]), asks(3, [], (), [[150, 90], [239, 159]])]
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cvat_cli", "--server-host", "http://127.0.0.1",
             "--server-port", str(server.server_address[1]), "function", "run-agent", "7",
             "--burst", "--function-module", "fdrn_adapter.serving.cvat",
             "-p", f"model=str:{tmp_path / 'fdrn.pth'}", "-p", "crop=int:64"],
            env={**os.environ, "CVAT_ACCESS_TOKEN": "token"}, capture_output=True, text=True,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stderr[-3000:]
    assert [kind for kind, _ in StandIn.completed] == ["complete"] * 3, done.stderr[-3000:]
    assert StandIn.asked.count("/api/tasks/1/data") == 1  # the frame, and its preparation
    bridge = PromptSession(model, crop=64)
    for (_, body), prompts in zip(StandIn.completed, [
        {"positive": [A]}, {"positive": [A], "negative": [C]},
        {"box": (150, 90, 239, 159)},
    ], strict=True):
        want = bridge.predict(picture(), **prompts).mask
        assert len(body["shapes"]) == want.any()  # an empty mask is no shape
        assert want.any() or "box" in prompts
        for shape in body["shapes"]:
            mask = decode_mask(shape["points"], image_width=240, image_height=160)
            assert np.array_equal(mask, want)
