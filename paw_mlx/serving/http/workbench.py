"""The workbench: a page that does in a browser what the own API offers.

Its files are read when the server starts. A request names one of them or gets nothing: no path of
a request ever reaches the disk. Browsers ask at every load whether a file is still the same
(ETag), so that a newer server is never met by an older page; nothing comes from elsewhere, and no
text can become markup (trusted types).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from ...files import find_files
from .state import State

_FOLDER = Path(__file__).parent / "workbench"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(state: State) -> list[Route]:
    """Return the routes of the workbench's files, below /workbench/."""
    found = [path for suffix in _TYPES for path in find_files(_FOLDER, f"*{suffix}")]
    served = {f"/workbench/{path.name}": _serve(path) for path in found}
    served["/workbench/"] = served["/workbench/index.html"]
    return [
        Route(path, endpoint, include_in_schema=False)
        for path, endpoint in ({"/workbench": _redirect} | served).items()
    ]


async def _redirect(request: Request) -> Response:
    return RedirectResponse("/workbench/")


def _serve(path: Path) -> Endpoint:
    """Return what answers with a file, or with 304 where the browser has it."""
    data = path.read_bytes()
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = _HEADERS | {"ETag": etag, "Content-Type": _TYPES[path.suffix]}

    async def endpoint(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if known.strip() == "*" or etag in (
            tag.strip().removeprefix("W/") for tag in known.split(",")
        ):
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers)

    return endpoint
