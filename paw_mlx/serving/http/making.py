"""Compile jobs of this server, and tuning as jobs in the background of this machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ... import jobs, kept_cases, store
from ...errors import OptionError
from ...evaluation import Gate
from ...jobs import Job
from . import sse
from .body import check_known, read_json, take, text_of
from .errors import Refused, too_many
from .state import State, check_stored

_LOOK_S = 0.1  # between two looks at a compile job
_TAIL = 200  # lines of a job's log
_MAX_TUNES = 2  # at once on this machine: each is a process with a base of its own
_AGAIN_S = 60  # until another one may have ended
_beginning = threading.Lock()


def routes(state: State, root: str) -> list[Route]:
    """Return the routes of compile jobs and background jobs."""
    making = _Making(state)
    return [
        Route(f"{root}/compiles", making.list_compiles, methods=["GET"]),
        Route(f"{root}/compiles", making.compile, methods=["POST"]),
        Route(f"{root}/compiles/{{id}}", making.show_compile, methods=["GET"]),
        Route(f"{root}/compiles/{{id}}", making.cancel_compile, methods=["DELETE"]),
        Route(f"{root}/compiles/{{id}}/events", making.watch_compile, methods=["GET"]),
        Route(f"{root}/tune/{{ref:path}}", making.tune, methods=["POST"]),
        Route(f"{root}/jobs", making.list_jobs, methods=["GET"]),
        Route(f"{root}/jobs/{{id}}", making.show_job, methods=["GET"]),
        Route(f"{root}/jobs/{{id}}", making.stop_job, methods=["DELETE"]),
    ]


class _Making:
    """Answers that make programs, and what became of them."""

    def __init__(self, state: State) -> None:
        self._state, self._compiles = state, state.compiles

    async def list_compiles(self, request: Request) -> Response:
        """List the compile jobs of this server, the newest first."""
        return JSONResponse({"compiles": [job.record() for job in self._compiles.entries()]})

    async def compile(self, request: Request) -> Response:
        """Begin to compile a spec, and return the job."""
        body = await read_json(request)
        check_known(body, "spec", "name", "labels", "compiler")
        labels = take(body, "labels", list)
        job = await self._state.in_thread(
            self._compiles.start,
            text_of(body, "spec"),
            name=take(body, "name", str),
            labels=labels,
            compiler=take(body, "compiler", str),
        )
        return JSONResponse(job.record(), 202)

    async def show_compile(self, request: Request) -> Response:
        """Show a compile job."""
        return JSONResponse(self._compiles.get(request.path_params["id"]).record())

    async def cancel_compile(self, request: Request) -> Response:
        """Cancel a compile job that is not done; nothing of it is stored."""
        return JSONResponse(self._compiles.cancel(request.path_params["id"]).record())

    async def watch_compile(self, request: Request) -> Response:
        """Tell how far a compile job is, until its end: ready, failed or cancelled."""
        self._compiles.get(request.path_params["id"])
        return sse.respond(self._changes(request.path_params["id"]))

    async def tune(self, request: Request) -> Response:
        """Begin to train a function on by its cases, in the background, and return the job."""
        body = await read_json(request)
        check_known(body, "gate", "steps", "minutes")
        argv = ["tune", request.path_params["ref"]]
        for option, kind in (("steps", int), ("minutes", float)):
            if (value := take(body, option, kind)) is not None:
                if value <= 0:
                    raise OptionError(f"{option} must be above 0, not {value}")
                argv.append(f"--{option}={value}")
        if gate := (take(body, "gate", str) or "").strip():
            argv.append(f"--gate={Gate.parse(gate)}")
        job = await self._state.in_thread(_tune, argv)
        return JSONResponse(await self._state.in_thread(_record, job), 202)

    async def list_jobs(self, request: Request) -> Response:
        """List the jobs in the background of this machine, the newest first."""
        found = await self._state.in_thread(jobs.entries)
        return JSONResponse({"jobs": [asdict(job) for job in found]})

    async def show_job(self, request: Request) -> Response:
        """Show a job in the background, and the end of its log."""
        return JSONResponse(await self._state.in_thread(self._job, request.path_params["id"]))

    async def stop_job(self, request: Request) -> Response:
        """Stop a job in the background; `paw-mlx jobs resume` goes on with it."""
        await self._state.in_thread(jobs.stop, request.path_params["id"])
        return JSONResponse(await self._state.in_thread(self._job, request.path_params["id"]))

    def _job(self, id: str) -> dict[str, Any]:
        return _record(jobs.read(id))

    async def _changes(self, id: str) -> AsyncGenerator[sse.Event]:
        """Give a compile job whenever it has changed, until it is done or the server ends."""
        revision = -1
        while True:
            job = self._compiles.get(id)
            if job.revision > revision:
                revision = job.revision
                yield job.state if job.is_done else "progress", job.record()
            if job.is_done or self._state.closing:
                return
            await asyncio.sleep(_LOOK_S)


def _tune(argv: list[str]) -> Job:
    """Begin to tune in the background; errors are those that the command would end with at once.

    Refused (429) where the function is being tuned already, or too many are.
    """
    name = argv[1]
    check_stored(name)
    if not store.is_name(name):
        raise Refused(400, "bad_field", f"only a name is tuned, and {name} is one of its versions")
    kept_cases.require(name)
    with _beginning:
        running = [
            job for job in jobs.entries() if job.state == "running" and job.argv[0] == "tune"
        ]
        if own := next((job for job in running if name in job.argv), None):
            raise too_many(f"{name} is being tuned already", _AGAIN_S, _how_to_stop(own))
        if len(running) >= _MAX_TUNES:
            why = f"{len(running)} functions are being tuned already, of {_MAX_TUNES} at once"
            raise too_many(why, _AGAIN_S, _how_to_stop(running[-1]))
        return jobs.start(argv)


def _how_to_stop(job: Job) -> str:
    return f"DELETE /paw/v1/jobs/{job.id} stops it."


def _record(job: Job) -> dict[str, Any]:
    return asdict(job) | {"log": jobs.tail(job, _TAIL)}
