"""What the routes of the server have in common: errors with a code, fields, pictures, the queue."""

import asyncio
import base64
import binascii
import hashlib
import io
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from PIL import Image

T = TypeVar("T")


class RequestError(Exception):
    """An answer other than 200: its status, a code for programs, and a text for people."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    @property
    def body(self) -> dict[str, Any]:
        """What is answered, for JSON."""
        return {"error": {"code": self.code, "message": self.message}}

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the answer."""
        found = {408: {"connection": "close"}, 413: {"connection": "close"},
                 503: {"retry-after": "1"}, 401: {"www-authenticate": "Bearer"}}
        return found.get(self.status, {})


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, "not_json", f"The body is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise RequestError(400, "not_an_object", "The body should be a JSON object.")
    return found


def field(body: dict[str, Any], name: str, kind: type | tuple, default: Any = None) -> Any:
    """A field of a JSON object; null and missing are the default."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        wanted = getattr(kind, "__name__", str(kind))
        raise RequestError(422, "bad_field", f"{name} should be a {wanted}, got {value!r:.60}.")
    return value


def encoded_picture(text: str, name: str = "image") -> bytes:
    """The bytes of a picture in base64 or in a data URL."""
    text = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(422, "bad_base64", f"{name} is not base64: {error}.") from error


def content_name(encoded: bytes) -> str:
    """What names a picture by the bytes of its file."""
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def checked_picture(encoded: bytes, max_pixels: int, name: str = "image") -> bytes:
    """The same bytes, if they look like a picture that is not too large.

    The size is read from the picture's header, so that nothing large is decoded.
    """
    Image.MAX_IMAGE_PIXELS = None  # the limit is here
    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            cols, rows = picture.size
    except Exception as error:  # Pillow raises a dozen kinds for damaged files
        raise RequestError(
            422, "bad_image", f"{name} is not a picture that can be read (JPEG, PNG, WebP ...)."
        ) from error
    if rows * cols > max_pixels:
        raise RequestError(
            413, "too_many_pixels",
            f"{name} has {cols} x {rows} pixels, {max_pixels} are allowed: send it smaller.",
        )
    return encoded


def decoded_mask(text: str, max_pixels: int) -> np.ndarray:
    """A mask (H, W) uint8, 0 and 255, from a PNG in base64 with 0 as background."""
    encoded = checked_picture(encoded_picture(text, "mask"), max_pixels, "mask")
    try:
        picture = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    except Exception as error:  # see `checked_picture`
        raise RequestError(422, "bad_image", "mask is not a picture that can be read.") from error
    return (picture.max(axis=2) > 0).astype(np.uint8) * 255


class ModelQueue:
    """A few requests at a time for one network, first come, first served.

    Many users then wait for each other a little, instead of all fighting over the same cores.

    Args:
        most: requests that may wait; further ones are told to come back.
        at_once: requests that run at a time: one, unless the network runs several together.
    """

    def __init__(self, most: int, at_once: int = 1):
        self._most, self.waiting = most, 0
        self._turn = asyncio.Semaphore(at_once)
        self._threads = ThreadPoolExecutor(at_once, "fdrn-model")

    async def run(self, work: Callable[[], T], gone: Callable[[], Awaitable[bool]]) -> T:
        """Do some work when its turn has come, unless who asked for it is gone by then."""
        if self.waiting >= self._most:
            raise RequestError(
                503, "busy", f"{self.waiting} requests are waiting already: try again in a second."
            )
        self.waiting += 1
        try:
            async with self._turn:
                if await gone():
                    raise RequestError(499, "client_gone", "The client went away.")
                running = asyncio.get_running_loop().run_in_executor(self._threads, work)
                # A cancelled request must not let the next one in while its work goes on.
                try:
                    return await asyncio.shield(running)
                except asyncio.CancelledError:
                    await asyncio.wait([running])
                    raise
        finally:
            self.waiting -= 1

    def close(self) -> None:
        """Let what runs finish."""
        self._threads.shutdown(wait=True)
