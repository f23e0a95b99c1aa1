"""The own API, below /paw/v1: run, decide and cases; other modules list, map, judge and make."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ... import kept_cases
from ...cases import Case
from ...errors import OptionError
from ...functions import Function
from ...runner import Options, Result
from . import judging, listing, making, mapping, sse
from .body import check_known, options_of, read_json, take, text_of
from .calls import run, stream, until_gone
from .errors import Refused
from .state import State, check_stored

ROOT = "/paw/v1"


def routes(state: State) -> list[Route]:
    """Return the routes of the own API."""
    own = _Own(state)
    return [
        Route(f"{ROOT}/run/{{ref:path}}", own.run, methods=["POST"]),
        Route(f"{ROOT}/decide/{{ref:path}}", own.decide, methods=["POST"]),
        Route(f"{ROOT}/cases/{{ref:path}}", own.list_cases, methods=["GET"]),
        Route(f"{ROOT}/cases/{{ref:path}}", own.add_case, methods=["POST"]),
        Route(f"{ROOT}/cases/{{ref:path}}", own.remove_case, methods=["DELETE"]),
        *listing.routes(state, ROOT),
        *mapping.routes(state, ROOT),
        *judging.routes(state, ROOT),
        *making.routes(state, ROOT),
    ]


class _Own:
    """Answers of the own API."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def run(self, request: Request) -> Response:
        """Run a function on one input; with `stream`, its pieces come as events."""
        text, options, body = await _read(request, "stream")
        reference = request.path_params["ref"]
        if take(body, "stream", bool, False):
            fn = await until_gone(request, self._state.function(reference))
            return sse.respond(self._pieces(fn, reference, text, options))
        return JSONResponse(
            _record(*await until_gone(request, run(self._state, reference, text, options)))
        )

    async def decide(self, request: Request) -> Response:
        """Say which label an input gets, and how likely each is."""
        text, options, _ = await _read(request)
        reference = request.path_params["ref"]
        fn, result = await until_gone(request, run(self._state, reference, text, options))
        if result.decision is None:
            raise OptionError(
                f"the program's output is {fn.program.output.kind}, and not one of some labels"
            )
        return JSONResponse(result.decision.record())

    async def list_cases(self, request: Request) -> Response:
        """List the cases kept with a function."""
        reference = request.path_params["ref"]
        cases = await self._state.in_thread(_cases_of, reference)
        told = [{"number": number, **case.record()} for number, case in enumerate(cases, 1)]
        return JSONResponse({"cases": told})

    async def add_case(self, request: Request) -> Response:
        """Keep a case; of an input that has one already, the output is replaced."""
        body = await read_json(request)
        check_known(body, "input", "output")
        case = Case(text_of(body), text_of(body, "output"))
        added = await self._state.in_thread(kept_cases.add, request.path_params["ref"], [case])
        status = "new" if added.new else "same" if added.same else "replaced"
        return JSONResponse(
            {"number": added.numbers[0], "status": status}, 201 if added.new else 200
        )

    async def remove_case(self, request: Request) -> Response:
        """Remove the case of a number, which must be in the query: `?number=3`."""
        check_known(request.query_params, "number")
        number = request.query_params.get("number", "")
        if not (number.isascii() and number.isdigit() and len(number) < 8):
            raise Refused(400, "bad_field", "name the case: ?number=N", param="number")
        reference = request.path_params["ref"]
        removed = await self._state.in_thread(kept_cases.remove, reference, [int(number)])
        return JSONResponse({"removed": removed[0].record()})

    async def _pieces(
        self, fn: Function, reference: str, text: str, options: Options
    ) -> AsyncGenerator[sse.Event]:
        async for item in stream(self._state, fn, reference, text, options):
            if isinstance(item, Result):
                yield "result", _record(fn, item)
            else:
                yield "piece", {"text": item}


def _cases_of(reference: str) -> list[Case]:
    check_stored(reference)
    return kept_cases.read(reference, offline=True)


async def _read(request: Request, *more: str) -> tuple[str, Options, dict[str, Any]]:
    """Return the input, the options and the whole body of a call."""
    body = await read_json(request)
    check_known(body, "input", "options", *more)
    return text_of(body), options_of(take(body, "options", dict, {})), body


def _record(fn: Function, result: Result) -> dict[str, Any]:
    """Return a result as it is sent; its value is null where the output was cut."""
    value = None
    if result.is_whole or result.decision:
        value = result.value
    return result.record() | {"value": value, "program_id": fn.program.id}
