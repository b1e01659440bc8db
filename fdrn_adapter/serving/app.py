"""The server: one network, and a route for each tool that asks it over HTTP."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from fdrn_adapter.serving import json_route, label_studio, x_anylabeling
from fdrn_adapter.serving.bridge import UnknownImageError
from fdrn_adapter.serving.guard import Guard, Limits
from fdrn_adapter.serving.label_studio import LabelStudio
from fdrn_adapter.serving.messages import ModelQueue, RequestError, parsed
from fdrn_adapter.serving.metrics import Metrics
from fdrn_adapter.serving.models import ServedModel
from fdrn_adapter.serving.openapi import openapi

logger = logging.getLogger(__name__)


class Server:
    """The routes, and what they share.

    Args:
        served: the network.
        limits: that hold for every request.
        source: where Label Studio's images come from.
    """

    def __init__(self, served: ServedModel, limits: Limits, source: LabelStudio):
        self.served, self.limits, self.source = served, limits, source
        bridge, batches = served.bridge, served.bridge.batches
        # As many again as are in a batch come from their clients or go back meanwhile.
        self.queue = ModelQueue(limits.waiting, 1 if batches is None else 2 * batches.most)
        self.metrics = Metrics({
            "fdrn_images": ("Images remembered.", lambda: len(bridge.image_keys)),
            "fdrn_remembered_bytes": ("Bytes of images, objects and features.",
                                      lambda: bridge.nbytes),
            "fdrn_waiting_requests": ("Requests that wait for the network or run.",
                                      lambda: self.queue.waiting),
        }, batches)

    def routes(self) -> list[Route]:
        """All routes."""
        pixels, bridge, name = self.limits.pixels, self.served.bridge, self.served.name
        work: dict[str, Callable[[dict], dict]] = {
            "/segment": lambda body: json_route.segment(bridge, body, pixels),
            "/predict": lambda body: label_studio.predict(bridge, name, body, self.source),
            "/v1/predict": lambda body: x_anylabeling.predict(bridge, name, body, pixels),
        }
        fixed: dict[tuple[str, str], Callable[[], Any]] = {
            ("GET", "/health"): lambda: {"status": "UP", "model": name, "engine": bridge.engine},
            ("GET", "/openapi.json"): lambda: openapi(name),
            ("GET", "/v1/models"): lambda: x_anylabeling.models(name),
            ("POST", "/setup"): lambda: {"model_version": name},
            ("POST", "/webhook"): lambda: {},
        }
        return [
            *(Route(path, self._worked(path, do), methods=["POST"]) for path, do in work.items()),
            *(Route(path, _answering(what), methods=[method])
              for (method, path), what in fixed.items()),
            Route("/metrics", self._metrics, methods=["GET"]),
        ]

    def _worked(self, path: str, do: Callable[[dict], dict]) -> Callable:
        async def endpoint(request: Request) -> Response:
            body = parsed(await request.body())
            try:
                answer = await self.queue.run(lambda: do(body), request.is_disconnected)
            except UnknownImageError as error:
                raise RequestError(404, "unknown_image", str(error)) from error
            except ValueError as error:
                raise RequestError(422, "bad_prompt", str(error)) from error
            except (RequestError, asyncio.CancelledError):
                raise
            except Exception as error:
                logger.exception("POST %s", path)
                raise RequestError(
                    500, "internal", f"The server failed ({type(error).__name__}); its log says "
                    "where. Other requests are not affected."
                ) from error
            if "computed" in answer:
                known = len(answer["clicks"]) - answer["computed"]
                self.metrics.clicks(answer["computed"], known)
            return JSONResponse(answer)

        return endpoint

    async def _metrics(self, request: Request) -> Response:
        return PlainTextResponse(self.metrics.text(), media_type="text/plain; version=0.0.4")


def _answering(what: Callable[[], Any]) -> Callable:
    async def endpoint(request: Request) -> Response:
        return JSONResponse(what())

    return endpoint


async def _answer_error(request: Request, error: RequestError) -> Response:
    return JSONResponse(error.body, error.status, error.headers)


class Addition(Protocol):
    """Further routes of a server, such as those of `fdrn annotate`."""

    def routes(self, server: Server) -> list[Route]:
        """The routes."""

    def close(self) -> None:
        """Called when the server stops."""


def make_app(
    served: ServedModel, limits: Limits | None = None, source: LabelStudio | None = None,
    addition: Addition | None = None,
) -> Guard:
    """The ASGI application of a network.

    Args:
        served: see `open_model`.
        limits: token, and sizes of what is taken.
        source: the Label Studio whose images may be fetched; none by default.
        addition: further routes.
    """
    limits = limits or Limits()
    server = Server(served, limits, source or LabelStudio())

    @asynccontextmanager
    async def lifespan(app: Starlette):
        yield
        server.queue.close()
        if addition is not None:
            addition.close()

    routes = [*server.routes(), *(addition.routes(server) if addition is not None else ())]
    app = Starlette(
        routes=routes, lifespan=lifespan, exception_handlers={RequestError: _answer_error}
    )
    return Guard(app, limits, server.metrics, {route.path for route in routes})
