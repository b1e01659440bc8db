"""Users of one server whose clicks come at the same time: one call, and the masks of each alone."""

import base64
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.stock import NARROW, picture, taught_host
from support.threads import beside_each_other

import fdrn_adapter
from fdrn_adapter.engines import cuda
from fdrn_adapter.serving.bridge import PromptSession

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from starlette.testclient import TestClient  # noqa: E402

from fdrn_adapter.serving.app import make_app  # noqa: E402
from fdrn_adapter.serving.models import ServedModel  # noqa: E402

USERS = 4
IMAGES = [np.roll(picture(), 30 * i, axis=1) for i in range(USERS)]
CLICKS = [[[(x + 30 * i) % 240, y] for x, y in ((96, 72), (100, 80), (90, 66))]
          for i in range(USERS)]


@pytest.fixture(scope="module")
def model():
    return fdrn_adapter.wrap(taught_host("tiny"), init="paper", **NARROW)


def encoded(image) -> str:
    return base64.b64encode(cv2.imencode(".png", image[..., ::-1])[1]).decode()


def png(text: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(text), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_UNCHANGED) > 0


def asked(client, i, number):
    """The answer to a user who has made so many clicks."""
    body = {"image": encoded(IMAGES[i]), "positive": CLICKS[i][:number]}
    return client.post("/segment", json=body).json()


def metric(client, name, **labels):
    text = ",".join(f'{k}="{v}"' for k, v in labels.items())
    (line,) = [line for line in client.get("/metrics").text.splitlines()
               if line.startswith(f"{name}{{{text}}} " if text else f"{name} ")]
    return float(line.split()[-1])


@pytest.mark.parametrize("engine", ["eager", "cuda"])
def test_many_users_at_once_get_their_own_masks(model, engine, device, monkeypatch):
    monkeypatch.setenv(cuda.VARIABLE, str(device))
    alone = PromptSession(model, crop=64, engine=engine, batch=1)
    want = [[alone.predict(image, points[:n]).mask for n in (1, 2, 3)]
            for image, points in zip(IMAGES, CLICKS, strict=True)]
    assert all(mask.any() for masks in want for mask in masks)
    bridge = PromptSession(model, crop=64, engine=engine, batch=USERS)
    hold_the_first(bridge.batches, monkeypatch)
    with TestClient(make_app(ServedModel("tiny", bridge)), base_url="http://localhost") as client:
        got = beside_each_other(*(
            lambda i=i: [png(asked(client, i, n)["mask"]) for n in (1, 2, 3)]
            for i in range(USERS)
        ))
        calls = metric(client, "fdrn_batch_sessions_count", call="click")
        clicks = metric(client, "fdrn_batch_sessions_sum", call="click")
        lone = metric(client, "fdrn_batch_sessions_bucket", call="click", le="1")
        assert metric(client, "fdrn_batches_failed_total") == 0
    for masks, wanted in zip(got, want, strict=True):
        assert not isinstance(masks, Exception), masks
        for a, b in zip(masks, wanted, strict=True):
            assert (a & b).sum() >= 0.999 * (a | b).sum()
    assert clicks == 3 * USERS and calls < clicks and lone < calls
    assert max(size for _, size in bridge.batches.sizes) > 1


def hold_the_first(batches, monkeypatch):
    """The first click does not end before the other users wait for it."""
    gathered, first = batches._gathered, [True]

    def holding(key):
        batch = gathered(key)
        if first and first.pop():
            with batches._changed:
                assert batches._changed.wait_for(
                    lambda: len(batches._waiting[key]) == USERS - len(batch), 120
                )
        return batch

    monkeypatch.setattr(batches, "_gathered", holding)


def test_errors_reach_who_asked_and_nobody_else(model):
    bridge = PromptSession(model, crop=64, batch=USERS)
    with TestClient(make_app(ServedModel("tiny", bridge)), base_url="http://localhost") as client:
        body = {"image": encoded(IMAGES[0]), "positive": [[999, 1]]}
        here = threading.Barrier(USERS)

        def user(i):
            here.wait(60)
            return client.post("/segment", json=body) if i == 0 else asked(client, i, 2)

        wrong, *right = beside_each_other(*(lambda i=i: user(i) for i in range(USERS)))
    assert wrong.status_code == 422
    assert [answer["computed"] for answer in right] == [2] * (USERS - 1)


def test_one_after_the_other_unless_it_pays(model, device, monkeypatch):
    monkeypatch.setenv(cuda.VARIABLE, str(device))
    assert PromptSession(model, batch=None).batches is None
    assert PromptSession(model, engine="cuda").batches is None
    bridge = PromptSession(model, engine="cuda", batch=None)
    assert bridge.batches.most == 8
    with TestClient(make_app(ServedModel("tiny", PromptSession(model)))) as client:
        headers = {"host": "localhost"}
        assert "fdrn_batch" not in client.get("/metrics", headers=headers).text
    with pytest.raises(ValueError, match="A batch has 1 session or more"):
        PromptSession(model, batch=0)


@pytest.mark.parametrize("options", [[], pytest.param(["--http"], marks=pytest.mark.slow)])
def test_the_study_that_compares(model, options, tmp_path):
    """experiments/studies/serve_batches.py prints a line for each way and number of users."""
    fdrn_adapter.save(model, tmp_path / "fdrn.pth")
    study = Path(__file__).parents[2] / "experiments/studies/serve_batches.py"
    command = [sys.executable, study, "--model", tmp_path / "fdrn.pth", "--engine", "eager",
               "--threads", "1", "--crop", "64", "--users", "1,3", "--batch", "2",
               "--clicks", "6", "--rounds", "1", "--warmup", "0", *options]
    made = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    ways = ("one at a time", "batches") if options else ("one at a time", "threads", "batches")
    found = [line for line in made.splitlines() if line.startswith(("    1  ", "    3  "))]
    assert [line[7:21].strip() for line in found] == [*ways, *ways]
    in_a_call = [float(line.split()[-2]) for line in found]
    assert in_a_call[: len(ways)] == [1] * len(ways) and 1 < in_a_call[-1] <= 2
