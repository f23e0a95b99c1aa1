"""Routes to compile: at once, or as a job that is asked after.

A spec that was compiled before is not compiled again: its program is told from the compiler that
wrote it, and from its spec and labels.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .... import program_names, store
from ....compiler.installed import installed_compiler
from ....errors import CallTimeout, HubError, PawError
from ....formats.checkpoint import compiler_fingerprint
from ....output import TEXT
from ....runtimes import MANIFEST_VERSION
from ....spec_output import labels_in_spec
from ...compile_job import Compile, iso
from ..body import read_json, take, text_of
from ..errors import Refused
from ..state import State
from .programs import Programs, Served

_PREFIX = "/api/v1/compile"
_PATIENCE_S = 2300.0  # the SDK hangs up after 2,400
_LOOK_S = 0.1
_MIN_SPEC_CHARS = 10


@dataclass(frozen=True)
class _Wish:
    """What a request asks to be compiled."""

    spec: str
    compiler: str | None
    slug: str | None

    @classmethod
    async def read(cls, request: Request) -> _Wish:
        """Read it; of the fields that only a public service has a use for, nothing is kept."""
        found = await read_json(request)
        spec = text_of(found, "spec").strip()
        if len(spec) < _MIN_SPEC_CHARS:
            raise Refused(
                422,
                "spec_too_short",
                f"the spec has {len(spec)} characters, and needs at least {_MIN_SPEC_CHARS}",
                hint="Say what the function does, and what it returns.",
            )
        slug, title = take(found, "slug", str), take(found, "name", str)
        if slug:
            store.check_name(slug)
        elif title and store.is_name(title):
            slug = title
        return cls(spec, take(found, "compiler", str) or None, slug or None)


@dataclass(frozen=True)
class _Made:
    """A program that is there, and how it came to be: new, or not."""

    served: Served
    new: bool


def routes(state: State, programs: Programs) -> list[Route]:
    """Return the routes."""
    jobs = _Jobs(state, programs)

    async def compile(request: Request) -> Response:
        wish, begin = await _Wish.read(request), time.perf_counter()
        made = await state.in_thread(jobs.known, wish)
        if made is None:
            job = await _done(state, request, await state.in_thread(jobs.start, wish))
            if job is None:
                return Response(status_code=499)  # nobody reads it
            made = await state.in_thread(jobs.made, job)
        told = await state.in_thread(jobs.tell, made)
        timings = {"total_ms": round((time.perf_counter() - begin) * 1000)}
        return JSONResponse(told | {"status": "ready", "timings": timings, "error": None})

    async def precheck(request: Request) -> Response:
        found = await read_json(request)
        wish = _Wish(text_of(found, "spec").strip(), take(found, "compiler", str) or None, None)
        return JSONResponse(await state.in_thread(jobs.precheck, wish))

    async def submit(request: Request) -> Response:
        wish = await _Wish.read(request)
        job = await state.in_thread(jobs.start, wish)
        return JSONResponse(await state.in_thread(jobs.record, job), 202)

    async def status(request: Request) -> Response:
        job = state.compiles.get(request.path_params["job_id"])
        return JSONResponse(await state.in_thread(jobs.record, job))

    async def cancel(request: Request) -> Response:
        job = state.compiles.cancel(request.path_params["job_id"])
        if job.state != "cancelled":
            raise Refused(409, "not_cancellable", f"the compile is {job.state} already")
        return JSONResponse({"job_id": job.id, "status": job.state})

    return [
        Route(_PREFIX, compile, methods=["POST"]),
        Route(f"{_PREFIX}/precheck", precheck, methods=["POST"]),
        Route(f"{_PREFIX}/async", submit, methods=["POST"]),
        Route(f"{_PREFIX}/{{job_id}}", status, methods=["GET"]),
        Route(f"{_PREFIX}/{{job_id}}", cancel, methods=["DELETE"]),
    ]


async def _done(state: State, request: Request, job: Compile) -> Compile | None:
    """Return a job when it is ready; None, with the job cancelled, if nobody waits any more.

    Its own error is raised, and CallTimeout before the SDK hangs up.
    """
    end = time.monotonic() + _PATIENCE_S
    while not job.is_done:
        if time.monotonic() > end:
            raise CallTimeout(
                f"the program is not ready after {_PATIENCE_S:.0f} s",
                hint=f"It goes on: ask for the job {job.id}, or compile again later.",
            )
        await asyncio.sleep(_LOOK_S)
        job = state.compiles.get(job.id)
        if not job.is_done and await request.is_disconnected():
            state.compiles.cancel(job.id)
            return None
    if job.state == "cancelled":
        raise Refused(409, "cancelled", "the compile was cancelled")
    if job.error:
        hints = [job.hint] if job.hint else []
        raise PawError.of({"code": job.code, "message": job.error, "hints": hints})
    return job


class _Jobs:
    """Compile jobs as the service tells them; all of it blocks."""

    def __init__(self, state: State, programs: Programs) -> None:
        self._compiles, self._programs = state.compiles, programs

    def known(self, wish: _Wish) -> _Made | None:
        """Return the program that was made of this before, under the name that is wished for."""
        compiler = wish.compiler or self._compiles.compiler
        if compiler not in self._compiles.compilers():
            return None  # which starting it refuses
        try:
            fingerprint = compiler_fingerprint(installed_compiler(compiler, offline=True))
        except HubError:  # it is not here, and made nothing
            return None
        output = labels_in_spec(wish.spec) or TEXT
        found = self._programs.made(wish.spec, output, fingerprint)
        if found is None:
            return None
        if wish.slug is None or wish.slug == found.name:
            return _Made(found, new=False)
        before = program_names.versions_in(program_names.folder_of(wish.slug))
        version = store.add(found.path, wish.slug)
        served = self._programs.find(f"{wish.slug}@v{version}")
        return _Made(served, new=version not in before)

    def start(self, wish: _Wish) -> Compile:
        """Begin a job; a compiler that is not known is 400, too many jobs 429."""
        return self._compiles.start(wish.spec, compiler=wish.compiler, name=wish.slug)

    def made(self, job: Compile) -> _Made:
        """Return the program of a job that is ready."""
        return _Made(self._programs.find(job.reference or ""), job.created_version)

    def tell(self, made: _Made) -> dict[str, Any]:
        """Return what every answer says of a program."""
        served, facts = made.served, self._programs.facts(made.served)
        return {
            "program_id": served.id,
            "slug": served.name,
            "version": served.version,
            "version_action": "created" if made.new else "no_change",
            "compiler_snapshot": facts.meta.get("compiler_snapshot"),
            "compiler_kind": facts.meta.get("compiler_kind"),
            "runtime_id": facts.runtime_id,
            "runtime_manifest_version": MANIFEST_VERSION if facts.runtime_id else None,
            "cached": not made.new,
        }

    def precheck(self, wish: _Wish) -> dict[str, Any]:
        """Return whether a spec was compiled before, and how long one would wait."""
        made = self.known(wish)
        waiting = self._compiles.num_waiting()
        return {
            "cached": made is not None,
            "program_id": made and made.served.id,
            "compiler_snapshot": wish.compiler or self._compiles.compiler,
            "compiler_kind": "mapper_lora",
            "queue_length": waiting,
            "estimated_wait_s": 0.0 if made else self._wait_s(waiting + 1),
        }

    def record(self, job: Compile) -> dict[str, Any]:
        """Return a job as the SDK's users read it; what is not known of it is null."""
        position = self._compiles.position(job.id)
        told: dict[str, Any] = dict.fromkeys(
            ("program_id", "slug", "version", "version_action", "runtime_id",
             "runtime_manifest_version", "pseudo_program")
        )  # fmt: skip
        told |= {
            "job_id": job.id,
            "status": job.state,
            "compiler_snapshot": job.compiler,
            "compiler_kind": "mapper_lora",
            "pseudo_program_strategy": None,
            "percent": job.percent,
            "message": job.message,
            "error": job.error,
            "cached": False,
            "created_at": iso(job.created),
            "completed_at": iso(job.completed),
            "queue_position": position,
            "queue_length": self._compiles.num_waiting(),
            "estimated_wait_s": 0.0 if job.is_done else self._wait_s((position or 0) + 1),
            "timings": {"total_ms": round(job.seconds * 1000)} if job.is_done else None,
        }
        return told | (self.tell(self.made(job)) if job.state == "ready" else {})

    def _wait_s(self, num_jobs: int) -> float | None:
        """Return how long so many jobs take, by those that were made; None before there are any."""
        took = [job.seconds for job in self._compiles.entries() if job.state == "ready"][:8]
        return round(num_jobs * sum(took) / len(took), 1) if took else None
