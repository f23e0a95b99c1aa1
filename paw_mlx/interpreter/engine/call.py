"""One call on its way: what to run, how far it has come, and where its result goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise

from ...errors import CallTimeout, OutputError
from ...output import Decision
from ...program import Program
from ...runner import DEFAULT_MAX_TOKENS, Options, Result
from ..models.load import Base
from .constraint import Constraint
from .decode import Sampler
from .draft import Habit, Lookup
from .kv import KV
from .labels import Search, Trie

_MAX_OPENING = 48  # forced tokens that join a prompt; a slot has room for more (ROOM_TOKENS)


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
    labels: Trie | None = None  # to choose among: nothing is decoded then
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
            with suppress(BaseException):  # of a callback: the owner's thread goes on
                self.future.set_exception(error)

    def succeed(self, result: Result) -> None:
        """End with a result, unless it has ended."""
        if self._claim():
            with suppress(BaseException):
                self.future.set_result(result)

    def _claim(self) -> bool:
        """Return whether to set the future now. Who waits for a cancelled one hears of it here."""
        ended, self._ended = self._ended, True
        return not ended and self.future.set_running_or_notify_cancel()


class Generation:
    """A call that decodes: its place in the slots, its last token, its text so far.

    `habit` is what drafts are made of, None if there shall be none. `opening` is what its output
    has to begin with; it is evaluated with the prompt.
    """

    def __init__(self, call: Call, prefix: KV, base: Base, habit: Habit | None) -> None:
        self.call, self.prefix, self.constraint = call, prefix, call.constraint
        self.search = Search(call.labels, call.options) if call.labels else None
        self.sampler: Sampler | None = None
        self.length = prefix.offset  # tokens in its slot
        self.last = -1  # the newest token, which no forward pass has read yet
        self.num_tokens = 0  # of the output
        self.drafted = False  # when last asked for a draft
        self._lookup = Lookup(call.tokens, habit) if habit else None
        self._ends, self._stream = base.eos, base.tokenizer.stream()
        self._pieces: list[str] = []
        self._num_steps = 0
        self._times = [time.perf_counter()]  # of the start, the first token and the end
        self.opening: list[int] = []
        if self.constraint is not None:
            sure = self.constraint.forced(min(call.limit - 1, _MAX_OPENING))
            self.opening = [token for token in sure if token not in self._ends]
            self.constraint.push(self.opening)

    @property
    def prompt(self) -> list[int]:
        """What is evaluated after the prefix: the input and the template, and the opening."""
        return self.call.tokens + self.opening

    def draft(self, limit: int) -> list[int]:
        """Return what comes next for sure, or else may by the input's own tokens.

        A row that chooses among labels goes back to its prompt, and on by another path.
        """
        if self.search:
            keep, (self.last, *rest) = self.search.plan(1 + max(0, limit))
            self.length = self.call.num_tokens + keep
            return rest
        limit = min(limit, self.call.limit - self.num_tokens - 1)
        draft: list[int] = []
        if limit > 0:
            sure = self.constraint.forced(limit) if self.constraint is not None else []
            draft = self._lookup.propose(limit) if self._lookup else []
            if draft[: len(sure)] != sure:
                draft = sure
        self.drafted = bool(draft)
        return draft

    def take(self, tokens: list[int]) -> bool:
        """Add what a forward pass gave; return whether the output is complete.

        OutputError if it was cut before its type's end.
        """
        self._num_steps += 1
        if self.search:
            return self._choose(self.search)
        ended = next((i for i, token in enumerate(tokens, 1) if token in self._ends), len(tokens))
        tokens = tokens[:ended]
        if self.constraint is not None:
            self.constraint.push(tokens)
        if not self.num_tokens:
            self._times.append(time.perf_counter())
            tokens = self.opening + tokens
        tokens += self._ending(tokens)
        if self._lookup:
            self._lookup.push(tokens)
        has_end = tokens[-1] in self._ends
        for token in tokens:
            self.num_tokens, self.last = self.num_tokens + 1, token
            if token in self._ends:
                self._finish("", "stop")
                return True
            piece = self._stream.push(token)
            if self.num_tokens == self.call.limit and not has_end:
                if self.constraint is not None:
                    raise self._cut()
                self._finish(piece, "length")
                return True
            self._give(piece)
        return False

    def _ending(self, tokens: list[int]) -> list[int]:
        """Return what alone can follow tokens, if the output's end is among it."""
        if self.constraint is None or tokens[-1] in self._ends:
            return []
        room = self.call.limit - self.num_tokens - len(tokens) + 1  # the end's own is no text
        sure = self.constraint.forced(room)
        return sure if sure and sure[-1] in self._ends else []

    def _cut(self) -> OutputError:
        wanted, limit = self.call.options.max_tokens or DEFAULT_MAX_TOKENS, self.call.limit
        full = limit < wanted
        return OutputError(
            f"{limit} tokens, which {'fill the window' if full else 'are the most'}, did not bring "
            "the output to its type's end",
            hint="Shorten the input." if full else "Allow more: max_tokens, or --max-tokens.",
        )

    def _choose(self, search: Search) -> bool:
        """Hear how likely labels are; return whether that is known well enough to decide."""
        if len(self._times) == 1:
            self._times.append(time.perf_counter())
        if not search.hear():
            return False
        decision, self.num_tokens = search.decide()
        self._give(decision.text)
        self._end("stop", decision)
        return True

    def _give(self, piece: str) -> None:
        self._pieces.append(piece)
        if piece and self.call.on_piece:
            self.call.on_piece(piece)

    def _finish(self, piece: str, reason: str) -> None:
        self._give(piece + self._stream.finish())
        self._end(reason)

    def _end(self, reason: str, decision: Decision | None = None) -> None:
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
                output=self.call.program.output,
                decision=decision,
            )
        )
