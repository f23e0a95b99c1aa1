"""Function: what a user calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

from .errors import OptionError, PawError
from .output import Decision, Labels
from .program import Program
from .rows import flow
from .rows.best import take_best
from .runner import Options, Pieces, Result, Runner, check_text


@dataclass(frozen=True)
class Ranked:
    """A text's place in a ranking: `index` is its place among what was ranked, from 0.

    `score` is 1 if it surely has the first label, 0 if the last; `value` is what `fn(text)` gives.
    """

    index: int
    text: str
    score: float
    value: Any


class Function:
    """A program on a runner: call it with text, get the value of its output's type.

    That is a label (or the enum's member, the Literal's value), JSON's value (or the dataclass,
    the model), or text. `run`, `arun` and `submit` give a `Result`: its `value`, its `text`, and
    for labels its `decision`.

    Any number of threads and tasks may call at once; their rows are decoded together.
    Keywords everywhere are `Options`' own: `max_tokens`, `temperature` (0 is greedy), `seed`,
    `timeout_s`, `overflow`, `lookup`, `threshold`, `otherwise`. They change `options`, which may
    be given instead.
    """

    def __init__(self, runner: Runner, program: Program) -> None:
        self.runner, self.program = runner, program

    def __call__(self, text: str, **changes: Any) -> Any:
        """Return the output for one input: text, stripped, or a label, or JSON's value.

        InputTooLong if it exceeds the window, OptionError if it is no text, OutputError if it
        was cut before its type's end.
        """
        return self.run(text, **changes).value

    def decide(self, text: str, **changes: Any) -> Decision:
        """Return which label an input gets, how likely each is, and whether it is in scope.

        OptionError for a program whose output is none of some labels.
        """
        self._check_labels()
        return _decision(self.run(text, **changes))

    def rank(self, texts: Iterable[str], *, top: int | None = None, **changes: Any) -> list[Ranked]:
        """Return texts, the best first: those that the first of the labels fits most.

        Their order is that of the label's expected place in the program's labels, by their
        probabilities; texts that are equal there stay in order. `top` keeps that many, and no
        more in memory. Errors are those of `map` and `decide`.
        """
        self._check_labels()
        rows = (((index, text), as_input(text)) for index, text in enumerate(_many(texts)))
        chosen = _options(None, changes)
        with closing(flow.outcomes(self.runner, self.program, rows, chosen)) as found:
            return take_best(map(_rank, found), top, lambda one: one.score)

    def run(self, text: str, options: Options | None = None, **changes: Any) -> Result:
        """Return the output for one input, with token counts and seconds."""
        return self.runner.run(self.program, text, _options(options, changes))

    async def arun(self, text: str, options: Options | None = None, **changes: Any) -> Result:
        """Run for asyncio; cancelling the task cancels the call."""
        return await asyncio.wrap_future(self.submit(text, options, **changes))

    def submit(self, text: str, options: Options | None = None, **changes: Any) -> Future[Result]:
        """Start a call and return at once. Its `cancel()` works while it runs, too."""
        return self.runner.submit(self.program, text, _options(options, changes))

    def stream(self, text: str, options: Options | None = None, **changes: Any) -> Pieces:
        """Return the output for one input, in pieces as they are decoded.

        When there are no more, the `result` of what is returned has counts and seconds.
        """
        return self.runner.stream(self.program, text, _options(options, changes))

    @overload
    def map(
        self,
        texts: Iterable[str],
        options: Options | None = None,
        *,
        batch_size: int | None = None,
        on_error: Literal["raise"] = "raise",
        **changes: Any,
    ) -> Iterator[Any]: ...

    @overload
    def map(
        self,
        texts: Iterable[str],
        options: Options | None = None,
        *,
        batch_size: int | None = None,
        on_error: Literal["return"],
        **changes: Any,
    ) -> Iterator[Any | PawError]: ...

    def map(
        self,
        texts: Iterable[str],
        options: Options | None = None,
        *,
        batch_size: int | None = None,
        on_error: str = "raise",
        **changes: Any,
    ) -> Iterator[Any]:
        """Return the outputs for many inputs, in order, each as soon as those before it are done.

        `texts` is read as it is needed and may be endless; while it waits for its next text,
        outputs wait, too (for such sources there are `submit` and `arun`). `batch_size` calls
        are in flight at once (None: what keeps the runner busy). An input that equals one of
        the last 8,192 different ones is not computed again, unless outputs are drawn at random.
        An input's own error is raised in its place, or given there if `on_error` is `return`;
        one of `texts` after the outputs before it. Closing the iterator cancels what is in flight.
        """
        if on_error not in ("raise", "return"):
            raise OptionError(f"on_error is raise or return, not {on_error!r}")
        rows = ((None, as_input(text)) for text in _many(texts))
        chosen = _options(options, changes)
        found = flow.outcomes(self.runner, self.program, rows, chosen, batch_size=batch_size)
        return flow.values(found, on_error)

    def _check_labels(self) -> None:
        output = self.program.output
        if not isinstance(output, Labels):
            raise OptionError(
                f"the program's output is {output.kind}, and not one of some labels",
                hint="Say which: paw_mlx.function(program, labels=[…]).",
            )


def _options(options: Options | None, changes: dict[str, Any]) -> Options:
    if options is None:
        return Options(**changes)
    return replace(options, **changes) if changes else options


def as_input(text: object) -> str | PawError:
    """Return an input as it is, or what is wrong with it: it is no text."""
    try:
        return check_text(text)
    except OptionError as error:
        return error


def _many(texts: Iterable[str]) -> Iterable[str]:
    """Return many texts as they are; OptionError for one text."""
    if isinstance(texts, str | bytes):
        raise OptionError("these are to be many texts, and this is one", hint="Call fn(text).")
    return texts


def _decision(result: Result) -> Decision:
    """Return what a program's labels were decided by."""
    assert result.decision is not None
    return result.decision


def _rank(outcome: flow.Outcome[tuple[int, str]]) -> Ranked:
    """Return where a text belongs; its own error is raised."""
    if isinstance(outcome.answer, PawError):
        raise outcome.answer
    decision = _decision(outcome.answer)
    return Ranked(*outcome.item, decision.score, decision.value)
