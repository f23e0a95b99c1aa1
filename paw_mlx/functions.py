"""Function: what a user calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Literal, overload

from .errors import OptionError, PawError
from .program import Program
from .rows import flow
from .runner import Options, Pieces, Result, Runner, check_text


class Function:
    """A program on a runner: call it with text, get text.

    Any number of threads and tasks may call at once; their rows are decoded together.
    Keywords everywhere are `Options`' own: `max_tokens`, `temperature` (0 is greedy), `seed`,
    `timeout_s`, `overflow`, `lookup`. They change `options`, which may be given instead.
    """

    def __init__(self, runner: Runner, program: Program) -> None:
        self.runner, self.program = runner, program

    def __call__(self, text: str, **changes: Any) -> str:
        """Return the output for one input, stripped.

        InputTooLong if it exceeds the window, OptionError if it is no text.
        """
        return self.run(text, **changes).text

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
    ) -> Iterator[str]: ...

    @overload
    def map(
        self,
        texts: Iterable[str],
        options: Options | None = None,
        *,
        batch_size: int | None = None,
        on_error: Literal["return"],
        **changes: Any,
    ) -> Iterator[str | PawError]: ...

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
        if isinstance(texts, str | bytes):
            raise OptionError("map takes many texts, and this is one", hint="Call fn(text).")
        rows = ((None, as_input(text)) for text in texts)
        chosen = _options(options, changes)
        found = flow.outcomes(self.runner, self.program, rows, chosen, batch_size=batch_size)
        return flow.texts(found, on_error)


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
