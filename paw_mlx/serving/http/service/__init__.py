"""The PAW service: what the official SDK asks for at `PAW_API_URL`, below `/api/v1`.

programs   the stored programs, by ids that mean the same bytes for ever
stored     routes to them: resolve, download, info, list, rename, versions, infer
compiling  routes to compile: at once, or as a job
models     routes to compilers, runtimes and the files of bases
"""

from __future__ import annotations

from starlette.routing import Route

from ..state import State
from . import compiling, models, stored
from .programs import Programs

__all__ = ["routes"]


def routes(state: State) -> list[Route]:
    """Return the routes of the PAW service."""
    programs = Programs()
    return [
        *compiling.routes(state, programs),
        *models.routes(state),
        *stored.routes(state, programs),
    ]
