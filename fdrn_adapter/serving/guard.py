"""What every request passes before it is read: token, host, size of the body, time."""

import asyncio
import base64
import binascii
import hmac
import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from fdrn_adapter.serving.messages import RequestError
from fdrn_adapter.serving.metrics import Metrics

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OPEN_ROUTES = ("/health",)  # for load balancers and tools that ask before they know a token
BODY_SECONDS = 60.0
# A client that sends more than is allowed reads no answer before it has sent all: what is beyond
# the limit is thrown away for so long.
DRAIN_SECONDS = 20.0


@dataclass(frozen=True)
class Limits:
    """What a server allows.

    Attributes:
        token: that requests have to carry; None for none.
        body_bytes: of a request.
        pixels: of a picture.
        waiting: requests that may wait for the network.
    """

    token: str | None = None
    body_bytes: int = 64 * 2**20
    pixels: int = 50_000_000
    waiting: int = 64


class Guard:
    """ASGI middleware: reads bodies within the limits, and turns errors into clear answers.

    Args:
        app: what comes behind.
        limits: that hold.
        metrics: where answers are counted.
        paths: that are counted each by itself.
    """

    def __init__(self, app: Any, limits: Limits, metrics: Metrics, paths: Collection[str]):
        self.app, self.limits, self.metrics, self.paths = app, limits, metrics, paths

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        sent: list[int] = []

        async def counted(message: dict) -> None:
            if message["type"] == "http.response.start":
                sent.append(message["status"])
            await send(message)

        start = time.perf_counter()
        try:
            self._check(scope)
            body = await self._body(scope, receive)
            start = time.perf_counter()
            await self.app(scope, _replayed(body, receive), counted)
        except RequestError as error:
            if error.status == 413 and not any(k.lower() == b"expect" for k, _ in scope["headers"]):
                await _drained(receive)
            if not sent:
                await _answer_error(counted, error)
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.metrics.request(path, sent[0] if sent else 499, time.perf_counter() - start)

    def _check(self, scope: dict) -> None:
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        if self.limits.token is None:
            # Without a token only this machine may ask; a page that a browser here shows may not
            # either, under whatever name it makes of our address.
            host = headers.get("host", "").rpartition("@")[2]
            name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
            if name not in LOOPBACK:
                raise RequestError(
                    403, "bad_host", f"This server has no token and answers as localhost only, not "
                    f"as {name!r:.80}: start it with --token."
                )
        elif scope["path"] not in OPEN_ROUTES and not _has_token(headers, self.limits.token):
            raise RequestError(
                401, "bad_token", "The token is missing or wrong: send 'Authorization: Bearer "
                "TOKEN', or 'Token: TOKEN'."
            )
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self.limits.body_bytes:
            raise self._too_large()

    async def _body(self, scope: dict, receive: Any) -> bytes:
        parts, size, deadline = [], 0, time.monotonic() + BODY_SECONDS
        while True:
            try:
                message = await asyncio.wait_for(receive(), max(deadline - time.monotonic(), 0.01))
            except asyncio.TimeoutError:
                raise RequestError(
                    408, "slow_body", f"The body did not arrive within {BODY_SECONDS:.0f} s."
                ) from None
            if message["type"] == "http.disconnect":
                raise RequestError(499, "client_gone", "The client went away.")
            part = message.get("body", b"")
            size += len(part)
            if size > self.limits.body_bytes:
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body"):
                return b"".join(parts)

    def _too_large(self) -> RequestError:
        return RequestError(
            413, "body_too_large",
            f"The body is larger than {self.limits.body_bytes} bytes, which are allowed.",
        )


def _has_token(headers: dict[str, str], token: str) -> bool:
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":  # what Label Studio sends
        try:
            value = base64.b64decode(value).decode().rpartition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            value = ""
    found = [value if scheme.lower() in ("bearer", "token", "basic") else "",
             headers.get("token", "")]
    return any([hmac.compare_digest(one.encode(), token.encode()) for one in found])


def _replayed(body: bytes, receive: Any) -> Any:
    """A `receive` that gives a body that was read already, and then what else comes."""
    given = []

    async def again() -> dict:
        if given:
            return await receive()
        given.append(True)
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _drained(receive: Any) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS
    while time.monotonic() < deadline:
        try:
            message = await asyncio.wait_for(receive(), 2.0)
        except asyncio.TimeoutError:
            return
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


async def _answer_error(send: Any, error: RequestError) -> None:
    body = json.dumps(error.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)),
               **error.headers}
    await send({
        "type": "http.response.start", "status": error.status,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    })
    await send({"type": "http.response.body", "body": body})
