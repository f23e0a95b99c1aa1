"""Tools that make functions and judge them: compile, test and fix, where they are allowed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any

from ... import kept_cases
from ...cases import Case
from ...errors import CompileError, NotFound, OptionError, PawError, listed
from ...evaluation import Judged, Report, judge
from ...functions import Function
from ...lint import lint
from ...program_names import split
from ...words import counted
from .catalog import Catalog, Offer
from .tools import MAX_CHARS, Answer, Tool, cut, function_tools, object_schema

if TYPE_CHECKING:
    from ..compiles import Compiles

_MAX_SPEC_CHARS = 20_000
_MOST_FAILURES = 20  # that are told of a test
_SHOWN = 500  # characters of each of their texts
_EVERY_S = 0.25  # between two looks at how far a test is

Tell = Callable[[float, float, str], Awaitable[None]]  # done, of how much, and a message
Open = Callable[[str], Function]  # a function by its reference; it blocks

_TEXT = {"type": "string", "maxLength": MAX_CHARS}
_FUNCTION = {"type": "string", "maxLength": 300, "description": "A function's tool, by its name."}
COMPILE = Tool(
    "compile_function",
    "Compile a function",
    "Compile an English spec to a small local function and keep it under a name; it becomes a tool "
    "of its own. Say what its input is, what to decide or return, and for a classifier end with "
    '"Return ONLY one of: A, B". A name that is taken gets a new version. It takes seconds to '
    "minutes.",
    object_schema(
        {
            "spec": {"type": "string", "maxLength": _MAX_SPEC_CHARS},
            "name": {
                "type": "string",
                "maxLength": 200,
                "description": "Of a-z, 0-9, '.', '_' and '-'.",
            },
            "labels": {
                "type": "array",
                "items": {"type": "string", "maxLength": 1000},
                "description": "All that it may return, if the spec does not list them.",
            },
        },
        optional=("labels",),
    ),
    reads=False,
)
TEST = Tool(
    "test_function",
    "Test a function",
    "Run a function on the cases that are kept with it, and return its accuracy with its 95% "
    "interval, and the cases that it gets wrong.",
    object_schema({"function": _FUNCTION}),
)
FIX = Tool(
    "fix_function",
    "Keep a case",
    "Keep what a function should have answered to an input, as a case for test_function, and "
    "return what it answers now. Of an input that has a case already the expected output is "
    "replaced.",
    object_schema({"function": _FUNCTION, "input": _TEXT, "expected": _TEXT}),
    reads=False,
    replaces=True,
)


class Actions:
    """What is allowed of compile, test and fix. `compiles` is there if compile is."""

    def __init__(
        self,
        allowed: Collection[str],
        catalog: Catalog,
        open_function: Open,
        compiles: Compiles | None = None,
    ) -> None:
        self._catalog, self._open, self._compiles = catalog, open_function, compiles
        every = {
            "compile": (COMPILE, self.compile),
            "test": (TEST, self.test),
            "fix": (FIX, self.fix),
        }
        chosen = [told for action, told in every.items() if action in allowed]
        self.tools = {tool.name: tool for tool, _ in chosen}
        self._calls = {tool.name: call for tool, call in chosen}

    async def call(self, name: str, arguments: dict[str, Any], tell: Tell) -> Answer:
        """Do what a tool does, by its checked arguments; `tell` hears how far it is.

        Cancelling the task ends it. PawErrors are those of what it does.
        """
        return await self._calls[name](arguments, tell)

    async def compile(self, arguments: dict[str, Any], tell: Tell) -> Answer:
        """Compile a spec and store it under a name that may be taken."""
        assert self._compiles is not None
        spec, name = arguments["spec"], arguments["name"]
        if not self._catalog.allows(name):
            raise CompileError(
                f"{name} is a function that is not offered here", hint="Choose another name."
            )
        job = self._compiles.start(spec, name=name, labels=arguments.get("labels"))
        try:
            while not job.is_done:
                await tell(job.percent, 100.0, job.message)
                job = await asyncio.to_thread(self._compiles.changes, job.id, job.revision, 1.0)
        except asyncio.CancelledError:
            self._compiles.cancel(job.id)
            raise
        if job.state != "ready":
            raise CompileError(job.error or "the compile was cancelled", hint=job.hint)
        self._catalog.include(name)
        return Answer(
            {
                "function": self._tool_of(name),
                "version": job.reference,
                "is_new_version": job.created_version,
                "output": job.output.record(),
                "seconds": round(job.seconds, 1),
                "advice": [f"{found.sentence}: {found.better}" for found in lint(spec)],
            }
        )

    async def test(self, arguments: dict[str, Any], tell: Tell) -> Answer:
        """Judge a function by its kept cases."""
        tool, offer = self._find(arguments["function"])
        cases, done, stopped = kept_cases.read(offer.reference), 0, threading.Event()
        if not cases:
            keeper = FIX.name if FIX.name in self.tools else "`paw-mlx case add`"
            raise OptionError(f"no cases are kept with {tool}", hint=f"{keeper} keeps one.")

        def count(_: Judged) -> None:
            nonlocal done
            done += 1
            if stopped.is_set():
                raise _StoppedError

        def work() -> Report:
            return judge(self._open(offer.reference), cases, on_case=count)

        running = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            while not (await asyncio.wait({running}, timeout=_EVERY_S))[0]:
                await tell(done, len(cases), f"{done:,} of {counted(len(cases), 'case')}")
        except asyncio.CancelledError:
            stopped.set()
            running.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise
        return Answer({"function": tool} | _brief(running.result()))

    async def fix(self, arguments: dict[str, Any], tell: Tell) -> Answer:
        """Keep a case, and say what the function answers now."""
        tool, offer = self._find(arguments["function"])
        case = Case(arguments["input"], arguments["expected"])
        return await asyncio.to_thread(self._fix, tool, offer, case)

    def _fix(self, tool: str, offer: Offer, case: Case) -> Answer:
        added = kept_cases.add(split(offer.reference)[0], [case])
        status = "new" if added.new else "same" if added.same else "replaced"
        told: dict[str, Any] = {"function": tool, "case": added.numbers[0], "status": status}
        if added.before:
            told["expected_before"] = added.before[0].output
        try:
            judged = Judged.of(case, self._open(offer.reference).run(case.input))
        except PawError as error:
            error.add_note(f"The case is kept all the same, as number {added.numbers[0]}.")
            raise
        return Answer(told | {"output": judged.output, "correct": judged.correct})

    def _find(self, name: str) -> tuple[str, Offer]:
        """Return a function by its tool's name, or its own; NotFound if it is not offered."""
        tools = function_tools(self._catalog.offers(), self.tools)
        for tool, (_, offer) in tools.items():
            if name in (tool, offer.reference):
                return tool, offer
        hint = f"Offered: {listed([*tools], 20)}." if tools else "None is offered yet."
        raise NotFound(f"no function {cut(name, 80)!r} is offered", hint=hint)

    def _tool_of(self, name: str) -> str:
        """Return the name of the tool that a stored name has become."""
        tools = function_tools(self._catalog.offers(), self.tools)
        return next(tool for tool, (_, offer) in tools.items() if offer.stored.name == name)


def _brief(report: Report) -> dict[str, Any]:
    """Return a report as an agent gets it: its figures, and some of what is wrong."""
    told: dict[str, Any] = {
        "cases": len(report.judged),
        "num_correct": report.num_correct,
        "num_failed": report.num_failed,
        "accuracy": round(report.accuracy, 4),
        "interval": [round(end, 4) for end in report.interval],
        "macro_f1": round(report.macro_f1, 4) if report.scores else None,
        "failures": [],
    }
    for failure in report.failures[:_MOST_FAILURES]:
        record = failure.record()
        shown = {key: record[key] for key in ("input", "expected", "output", "error")}
        texts = {key: cut(text, _SHOWN) for key, text in shown.items() if text is not None}
        told["failures"].append(texts)
    return told


class _StoppedError(Exception):
    """A test whose request was cancelled goes no further."""
