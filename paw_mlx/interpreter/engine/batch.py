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

from ...errors import AdapterMismatch
from ...program import Program
from ..adapters.bank import Bank
from ..models.load import Base
from .admission import Admission
from .budget import Share
from .calibration import measure_max_draft, read_max_draft
from .call import Call, Generation
from .constraint import mask
from .decode import prefill, sampler
from .draft import Habit
from .kv import Slots
from .labels import ask
from .prefixes import Prefixes
from .step import Step

# While a step is in flight its keys and values are still referred to, and writing them copies
# them: beyond so many bytes that takes a GPU longer than Python takes to build the next step.
_AHEAD_BYTES = 64_000_000
_STEP_TOKENS = 32  # beyond this a draft makes a forward pass dearer
_TIDY_STEPS = 256  # after which buffers of shapes that have passed go back to the system
_RETRY_STEPS = 8  # after which rows without drafts are asked for one again


class Choice(NamedTuple):
    """The next tokens (B,) of rows, on their way, and a logit of each: finite, or none is."""

    tokens: mx.array
    logit: mx.array

    def read(self) -> list[list[int]]:
        """Wait for each row's new token; nothing where its numbers overflowed."""
        mx.eval(self)
        logits = cast("list[float]", self.logit.tolist())
        pairs = zip(np.array(self.tokens).tolist(), logits, strict=True)
        return [[token] if math.isfinite(logit) else [] for token, logit in pairs]


class Batch:
    """The rows of one base. `ahead` computes a step before the one before it is read."""

    def __init__(
        self,
        base: Base,
        bank: Bank,
        prefixes: Prefixes,
        share: Share,
        *,
        max_rows: int,
        ahead: bool,
    ) -> None:
        self.rows: list[Generation] = []
        self.base, self.bank, self.prefixes = base, bank, prefixes
        self._share, self.ahead = share, ahead
        self.slots = Slots(base.model.num_layers)
        self.admission = Admission(base, bank, self.slots, max_rows, share.bytes)
        self._step = Step(base.model, bank, self.slots)
        self._max_draft, self._is_calibrated = read_max_draft(base)
        self._num_steps = 0
        self._habits: WeakKeyDictionary[Program, Habit] = WeakKeyDictionary()
        self._next: Choice | None = None  # the tokens after `last`

    def admit(self, calls: Sequence[Call]) -> None:
        """Evaluate prompts; their rows join, those that end at once excepted."""
        self._settle()
        rows: list[Generation] = []
        for call in calls:
            try:
                prefix = self.prefixes.get(call.program, call.prefix)
                drafts = call.options.drafts and call.labels is None
                habit = self._habit(call.program) if drafts else None
                rows.append(Generation(call, prefix, self.base, habit))
            except Exception as error:
                call.fail(error)
        for group in self.admission.group(rows):
            self._join(sorted(group, key=lambda row: id(row.call.program)))  # for the caches

    def step(self) -> None:
        """Give every row its next tokens by one forward pass; those that are done leave."""
        self._leave([i for i, row in enumerate(self.rows) if row.call.expired()])
        if not self.rows:
            return
        self._num_steps += 1
        if self._num_steps % _TIDY_STEPS == 0:
            mx.clear_cache()
        drafts = self._propose() if self._next is None else []
        self._deliver(0, self._verify(drafts) if any(drafts) else self._advance())

    def abort(self, error: BaseException) -> None:
        """Fail every row, after a forward pass that raised."""
        for row in self.rows:
            row.call.fail(error)
        self.clear()

    def rest(self) -> None:
        """Give back what only a batch needs, when there is nothing to do."""
        if not self._is_calibrated:
            self.bank.use_bare()
            self._max_draft, self._is_calibrated = measure_max_draft(self.base), True
        self.slots.rest()
        self.prefixes.trim()
        self.prefixes.keep()
        self.bank.trim()
        mx.clear_cache()

    def clear(self) -> None:
        """Give back all memory of rows."""
        self.rows, self._next = [], None
        self.slots.clear()

    def close(self, error: BaseException) -> None:
        """Fail every row, and give all memory back."""
        self.abort(error)
        self.prefixes.keep()
        self.prefixes.clear()
        self._step.clear()
        self.bank.close()
        self._share.release()

    def _habit(self, program: Program) -> Habit:
        """Return what a program's outputs take from its inputs; all its rows add to it."""
        habit = self._habits.get(program)
        if habit is None:
            ends = [self.base.end, *(self.base.eos - {self.base.end})]
            habit = self._habits[program] = Habit.of(program.template, self.base.tokenizer, ends)
        return habit

    def _join(self, rows: list[Generation]) -> None:
        """Let rows join; where that fails for several, one by one, so that only one is lost."""
        try:
            tokens = self._evaluate(rows).read()
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
        self._deliver(first, tokens)

    def _evaluate(self, rows: list[Generation]) -> Choice:
        """Evaluate prompts in the slots after those in use; return their first tokens."""
        first, model = len(self.rows), self.base.model
        room = self.admission.slot_tokens(self.rows, [row.call for row in rows])
        if self.slots.capacity > 2 * room:  # a long input has left
            self.slots.trim(first, room)
        self.slots.reserve(first + len(rows), room)
        for slot, row in enumerate(rows, first):
            self.slots.load(slot, row.prefix)
        kv = self.slots.view(first, [row.prefix.offset for row in rows])
        self.bank.use([row.call.program for row in rows])
        prompts = [row.prompt for row in rows]
        if len(prompts) == 1:
            logits = prefill(model, prompts[0], kv)
        else:
            ends = mx.array([len(tokens) - 1 for tokens in prompts])
            hidden = model.hidden(_pad(prompts), kv)[mx.arange(len(rows)), ends]
            logits = model.logits(hidden)
        for row in rows:
            row.length = row.prefix.offset + len(row.prompt)
            row.sampler = None if row.search else sampler(row.call.options)  # anew, if tried again
        return self._choose_tokens(rows, logits)

    def _propose(self) -> list[list[int]]:
        """Draft what may follow in each row; nothing where a forward pass would be dearer.

        Nor where bits are promised: how much pays is measured, and other widths are other bits.
        """
        room = self.base.window - max(row.length for row in self.rows) - 1
        most = 0 if self.bank.always_hot else self._max_draft
        limit = min(most, _STEP_TOKENS // len(self.rows) - 1, room)
        return [row.draft(limit) for row in self.rows]

    def _advance(self) -> list[list[int]]:
        """Return a token for every row, read one step late where steps are computed ahead."""
        choice, self._next = self._next, None
        if choice is None:
            last = mx.array([row.last for row in self.rows], mx.uint32)  # as steps give them
            choice = self._following(last)
        if self.ahead and self.slots.nbytes <= _AHEAD_BYTES and not self._must_wait():
            mx.async_eval(choice)  # on its way while the next one is being built
            self._next = self._following(choice.tokens)
            mx.async_eval(self._next)
        return choice.read()

    def _following(self, tokens: mx.array) -> Choice:
        """Compute the tokens after `tokens` (B,), which the slots take in."""
        logits = self._forward(tokens[:, None])[:, -1]
        for row in self.rows:
            row.length += 1
        return self._choose_tokens(self.rows, logits)

    def _verify(self, drafts: list[list[int]]) -> list[list[int]]:
        """Return what a forward pass over drafts gives: tokens up to each row's first wrong one."""
        fed = [[row.last, *draft] for row, draft in zip(self.rows, drafts, strict=True)]
        logits = self._forward(_pad(fed))
        ask([row.search for row in self.rows], logits)
        finite = mx.isfinite(logits[..., 0])  # (B, T), before what may not be said is masked
        logits = mask(logits, [row.constraint for row in self.rows], drafts)
        arrays = _choose(self.rows, logits[:, 0]), mx.argmax(logits, axis=-1), finite
        mx.eval(arrays)
        first, right, sound = (np.array(array).tolist() for array in arrays)
        taken = [[token] if ok[0] else [] for token, ok in zip(first, sound, strict=True)]
        for i, (row, draft, new) in enumerate(zip(self.rows, drafts, taken, strict=True)):
            if row.search:
                row.length += 1 + len(draft)
                if not all(sound[i][: 1 + len(draft)]):
                    new.clear()
                continue
            if not draft or not new:
                row.length += 1
                continue
            num = next((n for n, token in enumerate(draft) if token != right[i][n]), len(draft))
            if not row.sampler:
                new[:] = right[i][: num + 1]
            elif num:  # all of this was forced; each token has a draw, as in steps of one
                *_, drawn = [row.sampler(logits[i : i + 1, n]) for n in range(1, num + 1)]
                new[:] = [*right[i][:num], *np.array(drawn).tolist()]
            if False in sound[i][: len(draft) + 1]:  # the next step sees it where it belongs
                del new[sound[i].index(False) :]
                self.slots.wipe(i, row.length + len(new))
            row.length += len(new)
        return taken

    def _forward(self, tokens: mx.array) -> mx.array:
        """Return the logits (B, T, V) of all rows' next tokens (B, T)."""
        lengths = [row.length for row in self.rows]
        self.slots.reserve(len(lengths), max(lengths) + tokens.shape[1])
        self.bank.use([row.call.program for row in self.rows])
        return self._step.logits(tokens, lengths)

    def _choose_tokens(self, rows: Sequence[Generation], logits: mx.array) -> Choice:
        """Choose the rows' next tokens, each by its own sampler, of logits (B, V); labels listen.

        Overflow is seen before what may not be said is masked, which makes logits infinite.
        """
        ask([row.search for row in rows], logits)
        masked = mask(logits, [row.constraint for row in rows])
        return Choice(_choose(rows, masked), logits[:, 0])

    def _must_wait(self) -> bool:
        """Return whether the next step waits for tokens: for a mask, a path, or a draft."""
        if any(row.constraint is not None or row.search for row in self.rows):
            return True
        if 2 * len(self.rows) > _STEP_TOKENS:
            return False
        if self._num_steps % _RETRY_STEPS == 0:  # by the tokens that were read, without waiting
            return any(self._propose())
        return any(row.drafted for row in self.rows)

    def _settle(self) -> None:
        """Deliver the step that was computed ahead."""
        if self._next is not None:
            choice, self._next = self._next, None
            self._deliver(0, choice.read())

    def _deliver(self, first: int, tokens: list[list[int]]) -> None:
        """Give rows from `first` on their tokens; those that end or fail leave."""
        done = []
        for i, (row, new) in enumerate(zip(self.rows[first:], tokens, strict=True), first):
            try:
                if not new:
                    self.slots.wipe(i)
                    raise _overflow(self.base)
                ended = row.take(new)
            except Exception as error:
                row.call.fail(error)
                ended = True
            if ended:
                done.append(i)
                self.admission.note_output(row.num_tokens)
        self._leave(done)

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
            self.slots.move(movers, gaps, max(self.rows[i].length for i in movers))
        self.rows = [self.rows[i] for i in order]
        if self._next:
            rows = mx.array(order)
            self._next = Choice(*(part[rows] for part in self._next)) if order else None


def _choose(rows: Sequence[Generation], logits: mx.array) -> mx.array:
    """Return the best token of each row, or the one that its sampler draws, of logits (B, V)."""
    tokens = mx.argmax(logits, axis=-1)
    if not any(row.sampler for row in rows):
        return tokens
    drawn = [
        row.sampler(logits[i : i + 1]) if row.sampler else tokens[i : i + 1]
        for i, row in enumerate(rows)
    ]
    return mx.concatenate(drawn)


def _pad(rows: Sequence[Sequence[int]]) -> mx.array:
    """Return tokens of several lengths as one array (B, T), zeros on the right."""
    width = max(map(len, rows))
    return mx.array([[*row, *[0] * (width - len(row))] for row in rows], mx.uint32)


def _overflow(base: Base) -> AdapterMismatch:
    dtype = str(base.dtype).removeprefix("mlx.core.")
    return AdapterMismatch(
        f"numbers leave the range of {dtype} on {base.path.name}, so this input has no output",
        hint="If other programs have outputs on this base, this one's adapter does not fit it: "
        "compile or train it anew. If none has, load the base from bfloat16 files.",
    )
