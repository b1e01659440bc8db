"""The page's own files, which ask for nothing from anywhere else."""

from functools import lru_cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css",
         ".svg": "image/svg+xml"}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


@lru_cache(1)
def _files() -> dict[str, Path]:
    return {path.name: path for path in PAGE.iterdir() if path.suffix in KINDS}


async def answer(request: Request) -> Response:
    """index.html, or the file that is named."""
    path = _files().get(request.path_params.get("file", "index.html"))
    if path is None:
        return PlainTextResponse("There is no such file.", 404, HEADERS)
    return Response(path.read_bytes(), media_type=KINDS[path.suffix], headers=HEADERS)
