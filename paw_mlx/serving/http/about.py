"""What a server says of itself: that it is there, its numbers, its API."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from .metrics import CONTENT_TYPE
from .openapi import describe
from .state import State


def routes(state: State, others: Sequence[Route]) -> list[Route]:
    """Return the routes of what a server says of itself and of the other routes."""

    async def root(request: Request) -> Response:
        """Go to the workbench."""
        return RedirectResponse("/workbench/")

    async def health(request: Request) -> Response:
        """Say that the server is there."""
        return JSONResponse({"status": "ok", "version": version("paw-mlx")})

    async def metrics(request: Request) -> Response:
        """Return the server's numbers, as Prometheus reads them."""
        return PlainTextResponse(state.metrics.text(), media_type=CONTENT_TYPE)

    async def openapi(request: Request) -> Response:
        """Return this description of the API (OpenAPI 3.1)."""
        return JSONResponse(described)

    own = [
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/openapi.json", openapi),
        Route("/", root, include_in_schema=False),
    ]
    described = describe([*others, *own], token=state.token is not None)
    return own
