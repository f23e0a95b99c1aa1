"""Routes to what programs are made by and run on: compilers, runtimes, files of bases."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from .... import wheels
from ....compiler.installed import EMBEDDED, installed_compiler
from ....errors import HubError
from ....profiles import PROFILES
from ....runtimes import RUNTIMES, runtime_id_of
from ...compiles import Compiles
from ..errors import Refused
from ..state import State

_PREFIX = "/api/v1/models"


def routes(state: State) -> list[Route]:
    """Return the routes."""

    async def compilers(request: Request) -> Response:
        return JSONResponse({"compilers": await state.in_thread(_compilers, state.compiles)})

    async def runtime(request: Request) -> Response:
        found = RUNTIMES.get(request.path_params["runtime_id"])
        if found is None:
            raise Refused(404, "not_found", "Runtime not found")
        # The client has this address from somewhere: it is the one that it reaches us by.
        return JSONResponse(found.manifest(f"{request.base_url}{_PREFIX[1:]}/files/{found.file}"))

    async def base_file(request: Request) -> Response:
        wanted = request.path_params["file"]
        runtime = next((one for one in RUNTIMES.values() if one.file == wanted), None)
        path = await state.in_thread(wheels.installed, runtime.base) if runtime else None
        if path is None:
            hint = f"Fetch it here: paw-mlx pull {runtime.base}" if runtime else None
            raise Refused(404, "not_found", "Base model not found on this machine", hint=hint)
        return FileResponse(path, media_type="application/octet-stream")

    return [
        Route(f"{_PREFIX}/compilers", compilers),
        Route(f"{_PREFIX}/runtimes/{{runtime_id}}", runtime),
        Route(f"{_PREFIX}/files/{{file}}", base_file),
    ]


def _compilers(compiles: Compiles) -> list[dict[str, Any]]:
    """Return what compilers may be asked for, the one that compiles by default first."""
    default, *others = compiles.compilers()
    return [_compiler(default, True), *(_compiler(name, False) for name in others)]


def _compiler(name: str, default: bool) -> dict[str, Any]:
    """Return what the SDK's users look at before they choose a compiler."""
    try:
        interpreter, here = installed_compiler(name, offline=True).interpreter, True
    except HubError:
        made_for = (p for p in PROFILES.values() if p.compiler.split("/")[-1] == name)
        interpreter, here = next((profile.repo for profile in made_for), ""), False
    runtime_id = runtime_id_of(interpreter)
    remark = "small, part of paw-mlx" if name == EMBEDDED.name else "on this machine"
    remark = remark if here else "fetched when it is first asked for"
    return {
        "name": name,
        "latest_snapshot": name,
        "interpreter": interpreter,
        "runtime_id": runtime_id,
        "compiler_kind": "mapper_lora",
        "supports_local_sdk": runtime_id is not None,
        "description": f"Writes programs for {interpreter}; {remark}",
        "default": default,
        "installed": here,
    }
