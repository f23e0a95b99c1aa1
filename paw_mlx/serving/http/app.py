"""The application: the routes of all areas, behind the guard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect
from starlette.routing import Route

from ...errors import PawError
from . import about, openai, own, service, workbench
from .errors import tell
from .guard import Guard
from .state import State


def make_app(state: State) -> Starlette:
    """Make the application of a server: everything below `/`, for loopback or whoever is let in."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        state.close()

    areas = (own, openai, service, workbench)
    routes: list[Route] = [route for area in areas for route in area.routes(state)]
    return Starlette(
        routes=[*routes, *about.routes(state, routes)],
        middleware=[Middleware(Guard, state=state)],
        exception_handlers=dict.fromkeys(
            (PawError, HTTPException, ClientDisconnect, Exception), tell
        ),
        lifespan=lifespan,
    )
