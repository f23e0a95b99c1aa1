"""Running programs, whoever runs them: what a call asks, what it brings, and by whom.

A `Function` and all that works on rows know a `Runner` and no more. An `Interpreter` is one, in
this process; nothing here imports MLX, so that one in another process need not either.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any, Protocol

from .errors import CallTimeout, OptionError, OutputError, PawError
from .output import TEXT, Decision, Output, check_otherwise, check_threshold
from .program import Program

OVERFLOWS = ("error", "head", "tail", "middle")
DEFAULT_MAX_TOKENS = 512
_LATE_S = 5.0  # after a call's time is up, for who computes it to say so
_MAX_NUMBER = 1e9  # of a temperature, and of seconds: no lock waits for more than some centuries
_KINDS = {
    "max_tokens": Integral | None,
    "temperature": Real,
    "seed": Integral | None,
    "timeout_s": Real | None,
}


@dataclass(frozen=True)
class Options:
    """How to decode. OptionError for values out of range.

    `max_tokens`: output tokens at most; None is `DEFAULT_MAX_TOKENS` or what the window has
    left, whichever is less. `temperature` 0 is greedy; `seed` repeats a sampled output.
    `timeout_s`: CallTimeout if no result has come by then. `overflow`: what is kept of an
    input beyond the window (its head, its tail, or both without its middle), or error.
    `lookup`: whether to draft from the input's own tokens where it pays, which changes no
    greedy output. `threshold`: a label less likely than this is not said, but `otherwise`; None
    for both is what the program's labels carry.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    seed: int | None = None
    timeout_s: float | None = None
    overflow: str = "error"
    lookup: bool = True
    threshold: float | None = None
    otherwise: str | None = None

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            if not isinstance(getattr(self, name), kind):
                raise OptionError(f"{name} is {getattr(self, name)!r:.80}, and no number")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise OptionError(f"max_tokens must be at least 1, not {self.max_tokens}")
        if not 0 <= self.temperature <= _MAX_NUMBER:
            raise OptionError(
                f"temperature must be 0 or more, and at most {_MAX_NUMBER:g}, not "
                f"{self.temperature!r:.80}"
            )
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise OptionError(f"seed must lie in 0 … 2^64 - 1, not {self.seed}")
        if self.timeout_s is not None and not 0 < self.timeout_s <= _MAX_NUMBER:
            raise OptionError(
                f"timeout_s must be above 0, and at most {_MAX_NUMBER:g}, not "
                f"{self.timeout_s!r:.80}"
            )
        if self.overflow not in OVERFLOWS:
            raise OptionError(f"overflow is {self.overflow!r}, and can be {', '.join(OVERFLOWS)}")
        check_threshold(self.threshold)
        check_otherwise(self.otherwise)

    @property
    def repeats(self) -> bool:
        """Whether the same input gives the same output again."""
        return self.temperature == 0 or self.seed is not None

    @property
    def drafts(self) -> bool:
        """Whether drafts can be made: a drawn output cannot be foreseen."""
        return self.lookup and self.temperature == 0


@dataclass(frozen=True)
class Result:
    """One output and what it took.

    `finish_reason` is `stop` (the program ended it) or `length`: max_tokens or the window did,
    so `text` is cut, perhaps amid a character. `prefix_tokens` came from the cache;
    `input_tokens` are the input and the template after it, without the `cut_tokens` that an
    overflow policy left out; `output_tokens` include the ending one. `num_steps` counts the
    model's forward passes: one for each output token, or fewer where drafts from the input
    held. Seconds are wall time, without the wait for a turn. `decision` is there if the output
    is one of some labels.
    """

    text: str
    finish_reason: str
    prefix_tokens: int
    input_tokens: int
    output_tokens: int
    prefill_s: float
    decode_s: float
    cut_tokens: int = 0
    num_steps: int = 0
    output: Output = TEXT
    decision: Decision | None = None

    @property
    def value(self) -> Any:
        """The output as its type has it: a label, JSON's value, else text.

        OutputError if it was cut and so has none.
        """
        if self.decision:
            return self.decision.value
        if self.output != TEXT and not self.is_whole:
            raise OutputError(f"the output was cut after {self.output_tokens} tokens")
        return self.output.parse(self.text)

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        names = (field.name for field in fields(self) if field.name not in ("output", "decision"))
        told = {name: getattr(self, name) for name in names}
        told |= {"seconds": self.seconds, "tok_s": self.tok_s}
        return told | (self.decision.record() if self.decision else {})

    @property
    def is_whole(self) -> bool:
        """Whether the program ended the output itself."""
        return self.finish_reason != "length"

    @property
    def seconds(self) -> float:
        """Seconds from the first prompt token to the last output token."""
        return self.prefill_s + self.decode_s

    @property
    def tok_s(self) -> float:
        """Decoded tokens per second; the first token belongs to the prefill."""
        return (self.output_tokens - 1) / self.decode_s if self.decode_s else 0.0


class Pieces(Iterator[str], Protocol):
    """An output in pieces, as they are decoded; when there are no more, also its `result`."""

    @property
    def result(self) -> Result: ...

    def close(self) -> None:
        """Cancel the call, if it has not ended."""
        ...


class Stream(Pieces):
    """Pieces as they come. Closed, or dropped, it cancels its call, even if never asked."""

    def __init__(self, future: Future[Result], pieces: queue.SimpleQueue[str | None]) -> None:
        self._future, self._pieces = future, pieces

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> str:
        if self._future.cancelled():
            raise StopIteration
        piece = self._pieces.get()
        if piece is None:
            self._pieces.put(None)  # for whoever asks again
            if not self._future.cancelled():
                self._future.result()
            raise StopIteration
        return piece

    @property
    def result(self) -> Result:
        """The whole output with counts and seconds, once it has ended; until then it waits."""
        return self._future.result()

    def close(self) -> None:
        self._future.cancel()

    __del__ = close


class Runner(Protocol):
    """What runs programs: in this process, or in another one.

    `max_in_flight` says how many calls at once pay; `identity` names what outputs depend on
    besides program, input and options: the base's weights, and how they are held.
    """

    @property
    def max_in_flight(self) -> int: ...

    @property
    def identity(self) -> dict[str, Any]: ...

    def submit(self, program: Program, text: str, options: Options) -> Future[Result]:
        """Hand over one input; the future brings the result, or this input's error.

        Cancelling the future stops the call, also while it decodes.
        """
        ...

    def run(self, program: Program, text: str, options: Options) -> Result:
        """Return the output for one input, with counts and seconds."""
        ...

    def stream(self, program: Program, text: str, options: Options) -> Pieces:
        """Return the output for one input in pieces; whoever stops asking cancels the call."""
        ...

    def cut_tokens(self, program: Program, text: str, options: Options) -> int:
        """Return how many tokens of an input `overflow` leaves out; nothing is run."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def failed(error: PawError) -> Future[Result]:
    """Return the future of a call that could not even begin."""
    future: Future[Result] = Future()
    future.set_exception(error)
    return future


def take_result(future: Future[Result], options: Options) -> Result:
    """Wait for a call that another process computes; one that nobody waits for is cancelled.

    CallTimeout if it has not said so itself some seconds after its time.
    """
    try:
        return future.result(options.timeout_s and options.timeout_s + _LATE_S)
    except FutureTimeout:
        raise CallTimeout(f"no result within {options.timeout_s:g} s") from None
    finally:
        future.cancel()


def check_text(text: object) -> str:
    """Return an input that is text; OptionError for one that is not."""
    if isinstance(text, str):
        return text
    hint = None
    if isinstance(text, bytes | bytearray):
        hint = "Decode it first: text.decode()."
    elif type(text).__name__ in ("NoneType", "float", "NAType", "NaTType"):
        hint = 'An empty cell of a table is no text, either: in pandas, column.fillna("").'
    raise OptionError(f"an input is text, and this is of type {type(text).__name__}", hint=hint)
