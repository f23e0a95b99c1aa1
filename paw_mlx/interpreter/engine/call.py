"""One call on its way: what to run, how far it has come, and where its result goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import pairwise

from ...errors import CallTimeout
from ...program import Program
from ...runner import Options, Result
from ..base.tokenizer import Tokenizer
from .constraint import Constraint
from .decode import Sampler
from .draft import Habit, Lookup
from .kv import KV


@dataclass(eq=False)
class Call:
    """A program on one input, tokenized. `on_piece` hears the output as it is decoded."""

    program: Program
    prefix: Sequence[int]  # the template before the input
    tokens: list[int]  # the input and the template after it
    limit: int
    options: Options
    cut_tokens: int = 0
    on_piece: Callable[[str], None] | None = None
    constraint: Constraint | None = None
    future: Future[Result] = field(default_factory=Future)
    started: float = field(default_factory=time.perf_counter)
    keeps: object = None  # what must stay alive until the call has ended
    _ended: bool = field(default=False, init=False)

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole prompt."""
        return len(self.prefix) + len(self.tokens)

    def expired(self) -> bool:
        """Return whether nobody waits any more: cancelled, or beyond its time, which fails it."""
        if self.future.cancelled():
            return not self._claim()
        allowed = self.options.timeout_s
        if allowed is None or time.perf_counter() - self.started < allowed:
            return False
        self.fail(CallTimeout(f"no result within {allowed:g} s", hint="Raise timeout_s."))
        return True

    def fail(self, error: BaseException) -> None:
        """End with an error, unless it has ended."""
        if self._claim():
            self.future.set_exception(error)

    def succeed(self, result: Result) -> None:
        """End with a result, unless it has ended."""
        if self._claim():
            self.future.set_result(result)

    def _claim(self) -> bool:
        """Return whether to set the future now. Who waits for a cancelled one hears of it here."""
        ended, self._ended = self._ended, True
        return not ended and self.future.set_running_or_notify_cancel()


class Generation:
    """A call that decodes: its place in the slots, its last token, its text so far.

    `habit` is what drafts are made of, None if there shall be none.
    """

    def __init__(self, call: Call, prefix: KV, tokenizer: Tokenizer, habit: Habit | None) -> None:
        self.call, self.prefix, self.constraint = call, prefix, call.constraint
        self.sampler: Sampler | None = None
        self.length = prefix.offset  # tokens in its slot
        self.last = -1  # the newest token, which no forward pass has read yet
        self.num_tokens = 0  # of the output
        self.drafted = False  # when last asked for a draft
        self._lookup = Lookup(call.tokens, habit) if habit else None
        self._stream = tokenizer.stream()
        self._pieces: list[str] = []
        self._num_steps = 0
        self._times = [time.perf_counter()]  # of the start, the first token and the end

    def draft(self, limit: int) -> list[int]:
        """Return what comes next for sure, or else may by the input's own tokens."""
        limit = min(limit, self.call.limit - self.num_tokens - 1)
        draft: list[int] = []
        if limit > 0:
            draft = self.constraint.forced(limit) if self.constraint is not None else []
            if not draft and self._lookup:
                draft = self._lookup.propose(limit)
        self.drafted = bool(draft)
        return draft

    def take(self, tokens: list[int], ends: frozenset[int]) -> bool:
        """Add what a forward pass gave; return whether the output is complete."""
        if not self.num_tokens:
            self._times.append(time.perf_counter())
        self._num_steps += 1
        ended = next((i for i, token in enumerate(tokens, 1) if token in ends), len(tokens))
        tokens = tokens[:ended]
        if self._lookup:
            self._lookup.push(tokens)
        if self.constraint is not None:
            self.constraint.push(tokens)
        for token in tokens:
            self.num_tokens, self.last = self.num_tokens + 1, token
            if token in ends:
                self._finish("", "stop")
                return True
            piece = self._stream.push(token)
            if self.num_tokens == self.call.limit:
                self._finish(piece, "length")
                return True
            self._give(piece)
        return False

    def _give(self, piece: str) -> None:
        self._pieces.append(piece)
        if piece and self.call.on_piece:
            self.call.on_piece(piece)

    def _finish(self, piece: str, reason: str) -> None:
        self._give(piece + self._stream.finish())
        self._times.append(time.perf_counter())
        prefill_s, decode_s = (after - before for before, after in pairwise(self._times))
        self.call.succeed(
            Result(
                text="".join(self._pieces),
                finish_reason=reason,
                prefix_tokens=len(self.call.prefix),
                input_tokens=len(self.call.tokens),
                output_tokens=self.num_tokens,
                prefill_s=prefill_s,
                decode_s=decode_s,
                cut_tokens=self.call.cut_tokens,
                num_steps=self._num_steps,
            )
        )
