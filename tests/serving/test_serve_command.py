"""`fdrn serve` as a process: a real socket, real clients, a graceful stop."""

import base64
import json
import socket
import threading
import time

import cv2
import numpy as np
import pytest
from support.server import serving
from support.stock import picture, taught_host

import fdrn_adapter
from fdrn_adapter import cli
from fdrn_adapter.serving.bridge import PromptSession

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
A = [96, 72]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "fdrn.pth"
    fdrn_adapter.save(fdrn_adapter.wrap(taught_host("tiny"), init="paper"), path)
    return path


@pytest.fixture(scope="module")
def server(checkpoint):
    with serving(checkpoint, "--crop", "64", "--max-body", "2") as served:
        yield served


def encoded():
    return base64.b64encode(cv2.imencode(".png", picture()[..., ::-1])[1]).decode()


def asked(url, **body):
    return httpx.post(f"{url}/segment", json=body, timeout=120)


def test_masks_over_a_socket_are_the_bridges(server, checkpoint):
    answer = asked(server.url, image=encoded(), positive=[A]).json()
    data = np.frombuffer(base64.b64decode(answer["mask"]), np.uint8)
    mask = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) > 0
    want = PromptSession(fdrn_adapter.load(checkpoint), crop=64).predict(picture(), [A]).mask
    assert np.array_equal(mask, want) and want.any()


def test_clients_that_go_away_and_halves_of_requests_harm_nobody(server):
    body = json.dumps({"image": encoded(), "positive": [A, [100, 80], [90, 75]]}).encode()
    head = b"POST /segment HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    for part in (head + body, head + body[: len(body) // 2], head, b"\x00\xff\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(part)
    assert asked(server.url, image=encoded(), positive=[A]).status_code == 200
    assert httpx.get(f"{server.url}/health").json()["status"] == "UP"


def test_large_bodies_get_a_clear_answer(server):
    answer = httpx.post(f"{server.url}/segment", content=b" " * (20 * 2**20), timeout=60)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "body_too_large"


@pytest.mark.slow
def test_a_body_of_two_gigabytes(server):
    def parts():
        for _ in range(2048):
            yield b" " * 2**20

    headers = {"Content-Length": str(2 * 2**30)}
    start = time.monotonic()
    answer = httpx.post(f"{server.url}/segment", content=parts(), headers=headers, timeout=120)
    print(f"\n2 GiB refused after {time.monotonic() - start:.1f} s")
    assert answer.status_code == 413
    with open(f"/proc/{server.process.pid}/status") as status:
        resident = next(int(s.split()[1]) for s in status if s.startswith("VmHWM"))
    assert resident < 2**21  # kB: the body was never held


def test_stopping_answers_what_was_asked(checkpoint):
    with serving(checkpoint, "--crop", "64", FDRN_TOKEN="secret") as served:
        assert asked(served.url, image=encoded(), positive=[A]).status_code == 401
        got = []

        def ask():
            headers = {"Authorization": "Bearer secret"}
            points = [[90 + i, 70] for i in range(15)]
            got.append(httpx.post(f"{served.url}/segment", headers=headers, timeout=120,
                                  json={"image": encoded(), "positive": points}))

        thread = threading.Thread(target=ask)
        thread.start()
        metrics = f"{served.url}/metrics"
        for _ in range(600):
            text = httpx.get(metrics, headers={"Token": "secret"}).text
            if "fdrn_waiting_requests 1" in text or got:
                break
        served.process.terminate()
        thread.join()
        assert served.process.wait(60) == 0
        assert "stopped" in served.process.stdout.read()
    assert got[0].status_code == 200 and got[0].json()["computed"] == 15


def test_other_addresses_need_a_token(capsys, monkeypatch):
    monkeypatch.delenv("FDRN_TOKEN", raising=False)
    assert cli.main(["serve", "--host", "0.0.0.0"]) == 2
    assert "give a token" in capsys.readouterr().err


def test_a_batch_of_nobody_is_told_before_anything_is_loaded(tmp_path, capsys):
    (tmp_path / "net.pth").touch()  # which could not be loaded
    assert cli.main(["serve", "--model", str(tmp_path / "net.pth"), "--batch", "0"]) == 2
    assert "--batch counts users whose clicks share a call, 1 or more: 0" in capsys.readouterr().err


def test_an_address_of_label_studio_that_is_none_is_told_first(tmp_path, capsys):
    (tmp_path / "net.pth").touch()  # which could not be loaded
    words = ["serve", "--model", str(tmp_path / "net.pth"), "--label-studio", "localhost:8080"]
    assert cli.main(words) == 2
    assert "http://localhost:8080; got localhost:8080" in capsys.readouterr().err


def test_a_port_in_use_is_told_before_anything_is_loaded(tmp_path, capsys):
    (tmp_path / "net.pth").touch()  # which could not be loaded
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.main(["serve", "--model", str(tmp_path / "net.pth"), "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert f"--port {port} of 127.0.0.1 cannot be used" in said and "--port 0" in said
