"""Rows that decode together: continuous batching over slots.

Every row has its own program, prefix, position, sampler and limit. Rows join when there is
room and leave when they are done; the others do not notice. One thread at a time.

    tokens   (B, T)     T = 1, or more where drafts are verified or prompts evaluated
    logits   (B, V) or (B, T, V)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, cast
from weakref import WeakKeyDictionary

import mlx.core as mx
import numpy as np

from ..errors import AdapterMismatch
from ..program import Program
from .bank import Bank
from .call import Call, Row
from .decode import PREFILL_TOKENS, prefill
from .kv import Slots
from .lookup import MAX_DRAFT, Habit
from .residents import Prefixes
from .weights import Base

_STEP_TOKENS = 32  # beyond this a draft makes a forward pass dearer
_PREFILL_BATCH = 2048  # prompt tokens of several rows evaluated at once
_TIDY_STEPS = 256  # after which buffers of shapes that have passed go back to the system
_ROOM_TOKENS = 64  # reserved for an output at least; where they were longer lately, so much
_RETRY_STEPS = 8  # after which rows without drafts are asked for one again


class Chosen(NamedTuple):
    """The next tokens (B,) of rows, on their way, and a logit of each: finite, or none is."""

    tokens: mx.array
    logit: mx.array

    def read(self) -> list[list[int]]:
        """Each row's new token, or nothing where its numbers overflowed; waits for them."""
        mx.eval(self)
        logits = cast("list[float]", self.logit.tolist())
        pairs = zip(np.array(self.tokens).tolist(), logits, strict=True)
        return [[token] if math.isfinite(logit) else [] for token, logit in pairs]

    def ordered(self, order: list[int]) -> Chosen | None:
        """Those of some rows."""
        if not order:
            return None
        rows = mx.array(order)
        return Chosen(self.tokens[rows], self.logit[rows])


class Batch:
    """The rows of one base. `ahead` computes a step before the one before it is read."""

    def __init__(
        self,
        base: Base,
        bank: Bank,
        prefixes: Prefixes,
        *,
        max_rows: int,
        kv_bytes: int,
        ahead: bool,
    ) -> None:
        self.rows: list[Row] = []
        self.base, self.bank, self.prefixes = base, bank, prefixes
        self._max_rows, self._kv_bytes, self._ahead = max_rows, kv_bytes, ahead
        self._slots = Slots(base.model.num_layers)
        self._num_steps, self._room = 0, _ROOM_TOKENS
        self._token_bytes = base.profile.num_kv_elements * base.dtype.size
        self._habits: WeakKeyDictionary[Program, Habit] = WeakKeyDictionary()
        self._next: Chosen | None = None  # the tokens after `last`

    def choose(self, waiting: Sequence[Call]) -> list[Call]:
        """Those calls that may join now: the oldest, and others like it.

        A few join at a time rather than one by one, and of equal length where there is a
        choice, so that a prompt's evaluation pads little.
        """
        room = self._max_rows - len(self.rows)
        if not waiting or room < min(len(waiting), max(1, self._max_rows // 4)):
            return []
        near = sorted(waiting[: 4 * room], key=lambda c: abs(c.num_tokens - waiting[0].num_tokens))
        chosen: list[Call] = []
        for call in near[:room]:
            if self._fits([*chosen, call]):
                chosen.append(call)
            elif call is waiting[0]:
                return []
        return chosen

    def admit(self, calls: Sequence[Call]) -> None:
        """Evaluate prompts; their rows join, those that end at once excepted."""
        self._settle()
        rows: list[Row] = []
        for call in calls:
            try:
                prefix = self.prefixes.get(call.program)
                habit = self._habit(call.program) if call.options.drafts else None
                rows.append(Row(call, prefix, self.base.tokenizer, habit))
            except Exception as error:
                call.fail(error)
        for group in self._groups(rows):
            self._join(sorted(group, key=lambda row: id(row.call.program)))  # for the caches

    def step(self) -> None:
        """One forward pass for all rows; finished, cancelled and late ones leave."""
        self._leave([i for i, row in enumerate(self.rows) if row.call.expired()])
        if not self.rows:
            return
        drafts = self._drafts() if self._next is None else []
        if any(drafts):
            self._verify(drafts)
        else:
            self._advance()

    def abort(self, error: BaseException) -> None:
        """Fail every row, after a forward pass that raised."""
        for row in self.rows:
            row.call.fail(error)
        self.clear()

    def rest(self) -> None:
        """Give back what only a batch needs, when there is nothing to do."""
        self._slots.rest()
        self.prefixes.keep()
        mx.clear_cache()

    def clear(self) -> None:
        """Give back all memory of rows."""
        self.rows, self._next = [], None
        self._slots.clear()

    def close(self, error: BaseException) -> None:
        """Fail every row, and give all memory back."""
        self.abort(error)
        self.prefixes.keep()
        self.prefixes.clear()
        self.bank.close()

    def _habit(self, program: Program) -> Habit:
        """What a program's outputs take from its inputs; all its rows add to it."""
        habit = self._habits.get(program)
        if habit is None:
            ends = [self.base.end, *(self.base.eos - {self.base.end})]
            habit = self._habits[program] = Habit.of(program.template, self.base.tokenizer, ends)
        return habit

    def _fits(self, joining: Sequence[Call]) -> bool:
        """Whether calls can run with the rows there are: their adapters and their memory."""
        calls = [row.call for row in self.rows] + list(joining)
        if len(calls) == 1:
            return True
        programs = {call.program for call in calls}
        if len({self.bank.kind(p) for p in programs} - {None}) > 1 or not self.bank.fits(programs):
            return False
        longest = self._longest([(call.num_prefix, len(call.tokens)) for call in joining])
        spare = self._slots.capacity if self._slots.capacity <= 2 * longest else 0
        return len(calls) * max(longest, spare) * self._token_bytes <= self._kv_bytes

    def _longest(self, joining: Sequence[tuple[int, int]]) -> int:
        """Tokens of a slot for the rows there are and those of these (prefix, input) tokens.

        Inputs are padded to one width, whatever stands before them.
        """
        padded = max(prefix for prefix, _ in joining) + max(num for _, num in joining)
        longest = max([padded, *(row.length for row in self.rows)])
        return min(longest + self._room, self.base.window + 1)

    def _groups(self, rows: list[Row]) -> list[list[Row]]:
        """Rows whose prompts are evaluated together; a long one goes alone."""
        groups: list[list[Row]] = []
        for row in sorted(rows, key=lambda row: len(row.call.tokens)):
            tokens = len(row.call.tokens)
            group = groups[-1] if groups else []
            last = max((r.prefix.offset for r in [*group, row]), default=0) + tokens
            joins = (len(group) + 1) * tokens <= _PREFILL_BATCH and last <= self.base.window
            if group and joins and tokens <= PREFILL_TOKENS:
                group.append(row)
            else:
                groups.append([row])
        return groups

    def _join(self, rows: list[Row]) -> None:
        """Let rows join; where that fails for several, one by one, so that only one is lost."""
        try:
            chosen = self._evaluate(rows).read()
        except Exception as error:
            if len(rows) == 1:
                rows[0].call.fail(error)
            else:
                for row in rows:
                    self._join([row])
            return
        first = len(self.rows)
        self.rows += rows
        for row in rows:
            del row.prefix  # the slot has it
        self._take(first, chosen)

    def _evaluate(self, rows: list[Row]) -> Chosen:
        """Evaluate prompts in the slots after those in use: their first tokens."""
        self._count_step()
        first, tokens = len(self.rows), [row.call.tokens for row in rows]
        width = max(map(len, tokens))
        longest = self._longest([(row.prefix.offset, len(row.call.tokens)) for row in rows])
        if self._slots.capacity > 2 * longest:  # a long input has left
            self._slots.trim(first, longest)
        self._slots.reserve(first + len(rows), longest)
        for slot, row in enumerate(rows, first):
            self._slots.load(slot, row.prefix)
        kv = self._slots.view(first, [row.prefix.offset for row in rows])
        self.bank.use([row.call.program for row in rows])
        if len(rows) == 1:
            logits = prefill(self.base.model, tokens[0], kv)
        else:
            padded = mx.array([t + [0] * (width - len(t)) for t in tokens])
            ends = mx.array([len(t) - 1 for t in tokens])
            hidden = self.base.model.hidden(padded, kv)[mx.arange(len(rows)), ends]
            logits = self.base.model.logits(hidden)
        for row in rows:
            row.length = row.prefix.offset + len(row.call.tokens)
            row.sampler = row.call.options.sampler()
        return self._chosen(rows, logits)

    def _advance(self) -> None:
        """A token for every row, read one step late where steps are computed ahead."""
        chosen = self._next
        if chosen is None:
            chosen = self._following(mx.array([row.last for row in self.rows]))
        self._next = None
        if self._ahead and not self._may_draft():
            self._next = self._following(chosen.tokens)
            mx.async_eval(self._next)
        self._take(0, chosen.read())

    def _following(self, tokens: mx.array) -> Chosen:
        """The tokens after `tokens` (B,), which the slots take in."""
        logits = self.base.model.logits(self._forward(tokens[:, None])[:, -1])
        for row in self.rows:
            row.length += 1
        return self._chosen(self.rows, logits)

    def _verify(self, drafts: list[list[int]]) -> None:
        """A forward pass over drafts: each row gets the tokens up to its first wrong one."""
        width = 1 + max(map(len, drafts))
        read = [[row.last, *draft] for row, draft in zip(self.rows, drafts, strict=True)]
        padded = mx.array([tokens + [0] * (width - len(tokens)) for tokens in read])
        logits = self.base.model.logits(self._forward(padded))
        best, first = mx.argmax(logits, axis=-1), self._chosen(self.rows, logits[:, 0])
        mx.eval(best, first)
        taken, right = first.read(), np.array(best).tolist()
        for row, draft, new, found in zip(self.rows, drafts, taken, right, strict=True):
            num = next((i for i, token in enumerate(draft) if token != found[i]), len(draft))
            row.length += num + 1
            if draft and new:
                new[:] = found[: num + 1]
        self._take(0, taken)

    def _forward(self, tokens: mx.array) -> mx.array:
        """The states (B, T, H) of all rows' next tokens (B, T)."""
        self._count_step()
        lengths = [row.length for row in self.rows]
        self._slots.reserve(len(lengths), max(lengths) + tokens.shape[1])
        self.bank.use([row.call.program for row in self.rows])
        return self.base.model.hidden(tokens, self._slots.view(0, lengths))

    def _chosen(self, rows: Sequence[Row], logits: mx.array) -> Chosen:
        """The rows' next tokens, each by its own sampler, of logits (B, V)."""
        tokens = mx.argmax(logits, axis=-1)
        if any(row.sampler for row in rows):
            drawn = [
                row.sampler(logits[i : i + 1]) if row.sampler else tokens[i : i + 1]
                for i, row in enumerate(rows)
            ]
            tokens = mx.concatenate(drawn)
        return Chosen(tokens, logits[:, 0])

    def _drafts(self) -> list[list[int]]:
        """What each row's input suggests; nothing where a forward pass would be dearer."""
        room = self.base.window - max(row.length for row in self.rows) - 1
        limit = min(MAX_DRAFT, _STEP_TOKENS // len(self.rows) - 1, room)
        return [row.draft(limit) if limit > 0 else [] for row in self.rows]

    def _may_draft(self) -> bool:
        """Whether the next step should wait for its tokens, since a draft may follow them."""
        if 2 * len(self.rows) > _STEP_TOKENS:
            return False
        again = self._num_steps % _RETRY_STEPS == 0
        return any(row.drafted or (again and row.drafts) for row in self.rows)

    def _count_step(self) -> None:
        self._num_steps += 1
        if self._num_steps % _TIDY_STEPS == 0:
            mx.clear_cache()

    def _settle(self) -> None:
        """Read the step that was computed ahead."""
        if self._next is not None:
            chosen, self._next = self._next, None
            self._take(0, chosen.read())

    def _take(self, first: int, tokens: list[list[int]]) -> None:
        """Give rows from `first` on their tokens; those that end or fail leave."""
        done = []
        for i, (row, new) in enumerate(zip(self.rows[first:], tokens, strict=True), first):
            try:
                if not new:
                    self._slots.wipe(i)
                    raise self._overflow()
                ended = row.take(new, self.base.eos)
            except Exception as error:
                row.call.fail(error)
                ended = True
            if ended:
                done.append(i)
                self._room = max(row.num_tokens, _ROOM_TOKENS, self._room - 1)
        self._leave(done)

    def _overflow(self) -> AdapterMismatch:
        dtype = str(self.base.dtype).removeprefix("mlx.core.")
        return AdapterMismatch(
            f"the program's numbers leave the range of {dtype}, so it has no output",
            hint="Compile or train it anew: its adapter does not fit this base.",
        )

    def _leave(self, done: list[int]) -> None:
        """Take rows out; the last ones move into the gaps, so that slots stay consecutive."""
        if not done:
            return
        gone, left = set(done), len(self.rows) - len(done)
        movers = [i for i in range(left, len(self.rows)) if i not in gone]
        gaps = [i for i in done if i < left]
        order = list(range(left))
        for gap, mover in zip(gaps, movers, strict=True):
            order[gap] = mover
        if gaps:
            self._slots.move(movers, gaps, max(self.rows[i].length for i in movers))
        self.rows = [self.rows[i] for i in order]
        self._next = self._next and self._next.ordered(order)
