"""The page and what it asks for, as routes beside those of `fdrn serve`."""

import logging
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fdrn_adapter.annotate import exports, imports, pictures, static
from fdrn_adapter.annotate.annotator import Annotator, StaleError
from fdrn_adapter.annotate.project import Project
from fdrn_adapter.serving.app import Server
from fdrn_adapter.serving.messages import RequestError, checked_picture, parsed

logger = logging.getLogger(__name__)

# Browsers send a header of their own choice to their own server only, unless that allows others.
PAGE_HEADER = "x-fdrn-page"


class PageRoutes:
    """The routes of the page on a project; `make_app` adds them to its own.

    Args:
        project: to be worked on; closed by `close`.
    """

    def __init__(self, project: Project):
        self.project = project

    def routes(self, server: Server) -> list[Route]:
        """All routes of the page, with the network of a server."""
        self._queue, self._limits = server.queue, server.limits
        self._annotator = Annotator(self.project, server.served.bridge)
        image = "/api/images/{name}"
        return [
            *(Route(path, static.answer, methods=["GET"]) for path in ("/", "/page/{file}")),
            self._get("/api/overview", lambda r: self._overview(server.served.name)),
            self._get("/api/progress.csv", self._progress),
            self._get(image + "/picture", self._picture),
            self._get(image + "/thumbnail", self._thumbnail),
            self._get(image + "/state", lambda r: self._annotator.state(_name(r))),
            self._get(image + "/revision", lambda r: self._annotator.revision(_name(r))),
            self._get("/api/export/{kind}", self._download),
            self._post("/api/export/{kind}", self._export),
            self._post("/api/photographs", self._add),
            self._post("/api/import", self._import, network=True),
            self._post(image + "/open", lambda r, b: self._annotator.open(_name(r)), network=True),
            self._post(image + "/prepare", lambda r, b: self._annotator.prepare(_name(r)),
                       network=True),
            self._post(image + "/peek", self._peek, network=True),
            self._post(image + "/corners", self._corners),
            self._post(image + "/mark", self._mark),
            self._post(image + "/do/{action}", self._act, network=True),
        ]

    def close(self) -> None:
        """Save what is not saved."""
        self.project.close()

    # -- answers -------------------------------------------------------------------------------

    def _overview(self, model: str) -> dict[str, Any]:
        return {**self.project.overview(), "model": model, "exports": list(exports.KINDS)}

    def _progress(self, request: Request) -> Response:
        return Response(self.project.progress_csv(), media_type="text/csv", headers=_as_file(
            "progress.csv"))

    def _picture(self, request: Request) -> Response:
        content, kind = pictures.for_browsers(self.project.path(_name(request)))
        return Response(content, media_type=kind)

    def _thumbnail(self, request: Request) -> Response:
        return Response(pictures.thumbnail(self.project.path(_name(request))), headers={
            "content-type": "image/jpeg", "cache-control": "max-age=600"})

    def _download(self, request: Request) -> Response:
        kind = _kind(request)
        self.project.flush()
        name, content, media = exports.as_download(self.project, kind)
        return Response(content, media_type=media, headers=_as_file(name))

    def _export(self, request: Request, body: bytes) -> dict[str, Any]:
        kind = _kind(request)
        self.project.flush()
        return {"written": str(exports.write(self.project, kind))}

    def _add(self, request: Request, body: bytes) -> dict[str, Any]:
        checked_picture(body, self._limits.pixels, "The file")
        return {"name": self.project.add(request.query_params.get("name", ""), body)}

    def _import(self, request: Request, body: bytes) -> dict[str, Any]:
        return imports.take(self._annotator, request.query_params.get("name", ""), body)

    def _peek(self, request: Request, body: bytes) -> dict[str, Any]:
        return self._annotator.peek(_name(request), parsed(body))

    def _corners(self, request: Request, body: bytes) -> dict[str, Any]:
        asked = parsed(body)
        tolerance = asked.get("tolerance")
        if not isinstance(tolerance, int | float) or not 0 <= tolerance <= 1000:
            raise ValueError("tolerance is a number of pixels.")
        return self._annotator.corners(_name(request), asked.get("object"), tolerance)

    def _mark(self, request: Request, body: bytes) -> dict[str, Any]:
        return self._annotator.mark(_name(request), bool(parsed(body).get("finished")))

    def _act(self, request: Request, body: bytes) -> dict[str, Any]:
        action = request.path_params["action"]
        if action not in self._annotator.actions:
            raise RequestError(404, "unknown_action", f"There is no action {action!r:.40}.")
        return self._annotator.act(_name(request), action, parsed(body))

    # -- endpoints -----------------------------------------------------------------------------

    def _get(self, path: str, do: Callable[[Request], Any]) -> Route:
        async def endpoint(request: Request) -> Response:
            return await _answered(path, run_in_threadpool(do, request))

        return Route(path, endpoint, methods=["GET"])

    def _post(
        self, path: str, do: Callable[[Request, bytes], Any], network: bool = False
    ) -> Route:
        async def endpoint(request: Request) -> Response:
            if PAGE_HEADER not in request.headers:
                raise RequestError(
                    403, "not_the_page", f"Changes come from the page itself, with the header "
                    f"{PAGE_HEADER}."
                )
            body = await request.body()
            if network:
                work = self._queue.run(lambda: do(request, body), request.is_disconnected)
            else:
                work = run_in_threadpool(do, request, body)
            return await _answered(path, work)

        return Route(path, endpoint, methods=["POST"])


async def _answered(path: str, work: Any) -> Response:
    try:
        found = await work
    except StaleError as error:
        raise RequestError(
            409, "stale", "Another tab changed this photograph; the page shows its newest state."
        ) from error
    except ValueError as error:
        raise RequestError(422, "not_possible", str(error)) from error
    except (RequestError, GeneratorExit):
        raise
    except Exception as error:
        logger.exception("%s", path)
        raise RequestError(
            500, "internal", f"The server failed ({type(error).__name__}: {error}); its log says "
            "where. What was done before is safe."
        ) from error
    response = found if isinstance(found, Response) else JSONResponse(found)
    response.headers.setdefault("cache-control", "no-store")
    response.headers["cross-origin-resource-policy"] = "same-origin"
    response.headers["x-content-type-options"] = "nosniff"
    return response


def _name(request: Request) -> str:
    return request.path_params["name"]


def _kind(request: Request) -> str:
    kind = request.path_params["kind"]
    if kind not in exports.KINDS:
        raise RequestError(404, "unknown_kind", f"Exports are {', '.join(exports.KINDS)}.")
    return kind


def _as_file(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}
