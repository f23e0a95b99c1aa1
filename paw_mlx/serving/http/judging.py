"""Test and compare: functions on the cases kept with them, as events while they are judged."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ... import kept_cases
from ...cases import Case
from ...evaluation import Gate, Judged, Report, compare, judge
from ...functions import Function
from . import sse
from .body import check_known, read_json, take, text_of
from .calls import Outlet, pour, until_gone, while_asked
from .state import State

_EVERY_S = 0.1  # between two events of progress, at least


def routes(state: State, root: str) -> list[Route]:
    """Return the routes that judge."""
    judging = _Judging(state)
    return [
        Route(f"{root}/test/{{ref:path}}", judging.test, methods=["POST"]),
        Route(f"{root}/compare/{{ref:path}}", judging.compare, methods=["POST"]),
    ]


class _Judging:
    """Answers that judge functions."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def test(self, request: Request) -> Response:
        """Run a function on its cases; tell how often it is right, and if a gate holds."""
        body = await read_json(request)
        check_known(body, "gate")
        text = take(body, "gate", str)
        gate = Gate.parse(text) if text and text.strip() else None
        reference = request.path_params["ref"]
        (fn,), cases = await until_gone(request, self._load(reference))
        if gate:
            gate.check_labels(fn.program.output, cases)

        def work(outlet: Outlet[sse.Event]) -> None:
            asked = while_asked(fn, outlet, self._state, reference)
            report = judge(asked, cases, on_case=_counting(outlet, len(cases)))
            outlet.put(("report", _record(fn, report, gate)))

        return sse.respond(pour(work))

    async def compare(self, request: Request) -> Response:
        """Run two functions on the first one's cases; tell whether one is better."""
        body = await read_json(request)
        check_known(body, "with")
        references = request.path_params["ref"], text_of(body, "with")
        functions, cases = await until_gone(request, self._load(*references))

        def work(outlet: Outlet[sse.Event]) -> None:
            tell = _counting(outlet, 2 * len(cases))
            reports = [
                judge(while_asked(fn, outlet, self._state, reference), cases, on_case=tell)
                for fn, reference in zip(functions, references, strict=True)
            ]
            told = {
                name: {"program_id": fn.program.id, "accuracy": report.accuracy}
                | {"interval": report.interval, "seconds": report.seconds}
                for name, fn, report in zip("ab", functions, reports, strict=True)
            }
            outlet.put(("comparison", told | compare(*reports).record()))

        return sse.respond(pour(work))

    async def _load(self, *references: str) -> tuple[list[Function], list[Case]]:
        """Return functions, and the cases of the first; OptionError if it has none."""

        def load() -> tuple[list[Function], list[Case]]:
            functions = [self._state.load(reference) for reference in references]
            return functions, kept_cases.require(references[0], offline=True)

        return await self._state.in_thread(load)


def _counting(outlet: Outlet[sse.Event], total: int) -> Callable[[Judged], None]:
    """Return what tells how many cases are done, now and then and at the end."""
    numbers, told = count(1), 0.0

    def tell(_: Judged) -> None:
        nonlocal told
        done, now = next(numbers), time.monotonic()
        if done == total or now - told >= _EVERY_S:
            told = now
            outlet.put(("progress", {"done": done, "total": total}))

    return tell


def _record(fn: Function, report: Report, gate: Gate | None) -> dict[str, Any]:
    """Return a report as it is sent."""
    confusion = [
        {"expected": right, "output": said, "cases": number}
        for (right, said), number in report.confusion().items()
    ]
    decisions = report.decisions
    told = {"program_id": fn.program.id} | report.record() | {"confusion": confusion}
    told |= {"curve": [point._asdict() for point in decisions.curve()] if decisions else []}
    if gate:
        missed = [one.sentence for one in gate.check(report)]
        told |= {"gate": {"gate": str(gate), "passed": not missed, "missed": missed}}
    return told
