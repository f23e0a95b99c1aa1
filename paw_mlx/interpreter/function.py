"""Function and Result: what a user calls and what comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..program import Program
from .decode import Options

if TYPE_CHECKING:
    from .engine import Interpreter


@dataclass(frozen=True)
class Piece:
    """A step of an output: the text it adds (maybe none), and why the output ends, if it does."""

    text: str
    finish_reason: str | None


@dataclass(frozen=True)
class Result:
    """One output and what it took.

    `finish_reason` is `stop` (the program ended it) or `length` (max_tokens or the window
    did). `prefix_tokens` came from the cache; `input_tokens` are the input and the template
    after it; `output_tokens` include the ending one. Seconds are wall time.
    """

    text: str
    finish_reason: str
    prefix_tokens: int
    input_tokens: int
    output_tokens: int
    prefill_s: float
    decode_s: float

    @property
    def seconds(self) -> float:
        return self.prefill_s + self.decode_s

    @property
    def tok_s(self) -> float:
        """Decoded tokens per second; the first token belongs to the prefill."""
        return (self.output_tokens - 1) / self.decode_s if self.decode_s else 0.0


class Function:
    """A program on an interpreter: call it with text, get text.

    Keyword options everywhere: `max_tokens`, `temperature` (0 is greedy), `seed`.
    """

    def __init__(self, interpreter: Interpreter, program: Program) -> None:
        self.interpreter, self.program = interpreter, program

    def __call__(self, text: str, **options: Any) -> str:
        """The output for one input, stripped. InputTooLong if it exceeds the window."""
        return self.run(text, **options).text

    def run(self, text: str, **options: Any) -> Result:
        """The output for one input, with token counts and seconds."""
        return self.interpreter.run(self.program, text, Options(**options))

    def stream(self, text: str, **options: Any) -> Iterator[str]:
        """The output for one input, in pieces as they are decoded."""
        return self.interpreter.stream(self.program, text, Options(**options))
