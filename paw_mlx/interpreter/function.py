"""Function: what a user calls."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, overload

from ..errors import OptionError, PawError
from ..program import Program
from . import mapping
from .call import Result
from .decode import Options

if TYPE_CHECKING:
    from .engine import Interpreter


class Function:
    """A program on an interpreter: call it with text, get text.

    Any number of threads and tasks may call at once; their rows are decoded together.
    Keyword options everywhere are `Options`' own: `max_tokens`, `temperature` (0 is greedy),
    `seed`, `timeout_s`, `overflow`, `lookup`.
    """

    def __init__(self, interpreter: Interpreter, program: Program) -> None:
        self.interpreter, self.program = interpreter, program

    def __call__(self, text: str, **options: Any) -> str:
        """The output for one input, stripped. InputTooLong if it exceeds the window."""
        return self.run(text, **options).text

    def run(self, text: str, **options: Any) -> Result:
        """The output for one input, with token counts and seconds."""
        return self.interpreter.run(self.program, text, Options(**options))

    async def arun(self, text: str, **options: Any) -> Result:
        """`run` for asyncio; cancelling the task cancels the call."""
        return await asyncio.wrap_future(self.submit(text, **options))

    def submit(self, text: str, **options: Any) -> Future[Result]:
        """Start a call and return at once. Its `cancel()` works while it runs, too."""
        return self.interpreter.submit(self.program, text, Options(**options))

    @overload
    def map(
        self,
        texts: Iterable[str],
        *,
        batch_size: int | None = None,
        on_error: Literal["raise"] = "raise",
        **options: Any,
    ) -> Iterator[str]: ...

    @overload
    def map(
        self,
        texts: Iterable[str],
        *,
        batch_size: int | None = None,
        on_error: Literal["return"],
        **options: Any,
    ) -> Iterator[str | PawError]: ...

    def map(
        self,
        texts: Iterable[str],
        *,
        batch_size: int | None = None,
        on_error: str = "raise",
        **options: Any,
    ) -> Iterator[Any]:
        """The outputs for many inputs, in order, each as soon as it and those before it are done.

        `texts` is read as it is needed and may be endless; while it waits for its next text,
        outputs wait, too (for such sources there are `submit` and `arun`). `batch_size` calls
        are in flight at once (None: what keeps the engine busy). An input that equals one of
        the last 8,192 different ones is not computed again, unless outputs are drawn at random.
        An input's own error is raised in its place, or given there if `on_error` is `return`;
        one of `texts` after the outputs before it. Closing the iterator cancels what is in flight.
        """
        if on_error not in ("raise", "return"):
            raise OptionError(f"on_error is raise or return, not {on_error!r}")
        if isinstance(texts, str | bytes):
            raise OptionError("map takes many texts, and this is one", hint="Call fn(text).")
        rows = ((None, _checked(text)) for text in texts)
        found = mapping.outcomes(self, rows, Options(**options), batch_size=batch_size)
        return mapping.texts(found, on_error)

    def stream(self, text: str, **options: Any) -> Iterator[str]:
        """The output for one input, in pieces as they are decoded."""
        return self.interpreter.stream(self.program, text, Options(**options))


def _checked(text: object) -> str | PawError:
    if isinstance(text, str):
        return text
    return OptionError(f"an input is text, and this is of type {type(text).__name__}")
