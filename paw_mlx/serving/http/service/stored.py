"""Routes to stored programs: what they are, their bytes, and a call of one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import IO, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .... import settings, store
from ....files import scratch
from ....runner import Options
from ...compile_job import iso
from .. import calls
from ..body import read_json, take, text_of
from ..errors import Refused
from ..state import State
from .programs import Facts, Programs, Served, not_found

_PREFIX = "/api/v1/programs"
_MAX_PER_PAGE = 100
_CHUNK_BYTES = 256 << 10


def routes(state: State, programs: Programs) -> list[Route]:
    """Return the routes; a slug may hold a `/`, as it is or escaped."""

    async def find(request: Request) -> Served:
        return await state.in_thread(programs.find, request.path_params["ref"])

    async def resolve(request: Request) -> Response:
        return JSONResponse({"program_id": (await find(request)).id})

    async def download(request: Request) -> Response:
        served = await find(request)
        if served.id != request.path_params["ref"]:
            raise not_found(request.path_params["ref"])  # a name's bytes change, an id's do not
        file, size = await state.in_thread(_pack, programs, served)
        headers = {
            "Content-Length": str(size),
            "Content-Disposition": f'attachment; filename="{served.id}.paw"',
        }
        return StreamingResponse(
            _chunks(state, file), headers=headers, media_type="application/zip"
        )

    async def info(request: Request) -> Response:
        served = await find(request)
        return JSONResponse(await state.in_thread(_info, programs, served))

    async def listing(request: Request) -> Response:
        page, per_page = _number(request, "page", 1), _number(request, "per_page", 20)
        if per_page > _MAX_PER_PAGE:
            raise Refused(422, "invalid_request", f"per_page is {per_page} (limit {_MAX_PER_PAGE})")
        return JSONResponse(await state.in_thread(_page, programs, page, per_page))

    async def versions(request: Request) -> Response:
        name = request.path_params["ref"].partition("@v")[0]
        found = await state.in_thread(programs.versions, name)
        if not found:
            raise not_found(name)
        return JSONResponse(_versions(name, found))

    async def rename(request: Request) -> Response:
        served, slug = await find(request), text_of(await read_json(request), "slug").strip()
        new = slug or f"compiled/{served.id[:8]}"
        if new != served.name:
            await state.in_thread(store.rename, served.name, new)
        return JSONResponse({"id": served.id, "slug": slug or None})

    async def infer(request: Request) -> Response:
        return JSONResponse(await _infer(state, programs, request))

    return [
        Route("/api/v1/infer", infer, methods=["POST"]),
        Route(_PREFIX, listing),
        Route(f"{_PREFIX}/resolve/{{ref:path}}", resolve),
        Route(f"{_PREFIX}/{{ref:path}}/download", download),
        Route(f"{_PREFIX}/{{ref:path}}/versions", versions),
        Route(f"{_PREFIX}/{{ref:path}}", info, methods=["GET"]),
        Route(f"{_PREFIX}/{{ref:path}}", rename, methods=["PATCH"]),
    ]


async def _infer(state: State, programs: Programs, request: Request) -> dict[str, Any]:
    """Run a program on one input, and return what the SDK is told of it."""
    found = await read_json(request)
    served = await state.in_thread(programs.find, text_of(found, "program_id"))
    text = text_of(found)
    options = Options(
        max_tokens=take(found, "max_tokens", int),
        temperature=take(found, "temperature", float, 0.0),
    )
    call = calls.run(state, served.reference, text, options)
    _, result = await calls.until_gone(request, call)
    return {
        "output": result.text,
        "program_id": served.id,
        "tokens_generated": result.output_tokens,
        "finish_reason": result.finish_reason,
        "latency_ms": round(result.seconds * 1000, 1),
    }


def _pack(programs: Programs, served: Served) -> tuple[IO[bytes], int]:
    """Return what is sent of a program, as an open file that has no name any more; and its size."""
    with scratch(settings.cache_dir()) as folder:
        path = folder / "program.paw"
        programs.write(served, path)
        return path.open("rb"), path.stat().st_size


async def _chunks(state: State, file: IO[bytes]) -> AsyncIterator[bytes]:
    """Yield a file's bytes, and close it, also when nobody listens any more."""
    with file:
        while chunk := await state.in_thread(file.read, _CHUNK_BYTES):
            yield chunk


def _row(served: Served, facts: Facts) -> dict[str, Any]:
    """Return what a list of programs says of one."""
    compiler = facts.meta.get("compiler_snapshot") or facts.meta.get("compiler_kind")
    return {
        "id": served.id,
        "name": served.name,
        "slug": served.name,
        "version": served.version,
        "spec": facts.spec,
        "interpreter": facts.interpreter,
        "compiler": compiler,
        "compiler_snapshot": compiler,
        "compiler_kind": facts.meta.get("compiler_kind"),
        "runtime_id": facts.runtime_id,
        "created_at": facts.meta.get("created_at") or iso(served.modified),
        "public": False,
    }


def _info(programs: Programs, served: Served) -> dict[str, Any]:
    aliases = [one.name for one in programs.current() if one.id == served.id] or [served.reference]
    facts = programs.facts(served)
    more = {"aliases": aliases, "bytes": served.bytes, "output": facts.output.record()}
    return _row(served, facts) | more | {"downloads": 0, "hf_url": None}


def _page(programs: Programs, page: int, per_page: int) -> dict[str, Any]:
    found = programs.current()
    shown = found[(page - 1) * per_page : page * per_page]
    sound = ((served, programs.sound_facts(served)) for served in shown)
    rows = [_row(served, facts) for served, facts in sound if facts]
    return {"programs": rows, "total": len(found), "page": page, "per_page": per_page}


def _versions(name: str, found: list[Served]) -> dict[str, Any]:
    rows = [{"version": one.version, "program_id": one.id, "is_main": one.current} for one in found]
    main = next((one.version for one in found if one.current), None)
    return {"slug": name, "main_version": main, "versions": rows}


def _number(request: Request, key: str, default: int) -> int:
    """Return a whole number from 1 on out of a request's query."""
    text = request.query_params.get(key, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0):
        raise Refused(422, "invalid_request", f"{key} is {text[:20]!r}, and no number from 1 on")
    return int(text)
