"""Who may join a batch: the memory of rows and programs, and what is evaluated well together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..adapters.bank import Bank
from ..models.load import Base
from .call import Call, Generation
from .decode import PREFILL_TOKENS
from .kv import Slots

_PREFILL_BATCH = 2048  # prompt tokens of several rows evaluated at once
ROOM_TOKENS = 64  # reserved for an output at least; where they were longer lately, so much


class Admission:
    """The rules for joining. `max_bytes` says what the slots of all rows may take."""

    def __init__(
        self, base: Base, bank: Bank, slots: Slots, max_rows: int, max_bytes: Callable[[], int]
    ) -> None:
        self._base, self._bank, self._slots = base, bank, slots
        self._max_rows, self._max_bytes = max_rows, max_bytes
        self._token_bytes = base.profile.num_kv_elements * base.dtype.size
        self._room = ROOM_TOKENS

    def choose(self, waiting: Sequence[Call], rows: Sequence[Generation]) -> list[Call]:
        """Choose the calls that may join `rows` now: the oldest, and others like it.

        A few join at a time rather than one by one, and of equal length where there is a
        choice, so that a prompt's evaluation pads little.
        """
        room = self._max_rows - len(rows)
        if not waiting or room < min(len(waiting), max(1, self._max_rows // 4)):
            return []
        near = sorted(waiting[: 4 * room], key=lambda c: abs(c.num_tokens - waiting[0].num_tokens))
        chosen: list[Call] = []
        for call in near[:room]:
            if self._fits([*chosen, call], rows):
                chosen.append(call)
            elif call is waiting[0]:
                return []
        return chosen

    def group(self, joining: Sequence[Generation]) -> list[list[Generation]]:
        """Group rows whose prompts are evaluated together; a long one goes alone."""
        groups: list[list[Generation]] = []
        for row in sorted(joining, key=lambda row: len(row.prompt)):
            tokens = len(row.prompt)
            group = groups[-1] if groups else []
            last = max((r.prefix.offset for r in [*group, row]), default=0) + tokens
            joins = (len(group) + 1) * tokens <= _PREFILL_BATCH and last <= self._base.window
            if group and joins and tokens <= PREFILL_TOKENS:
                group.append(row)
            else:
                groups.append([row])
        return groups

    def slot_tokens(self, rows: Sequence[Generation], joining: Sequence[Call]) -> int:
        """Return the tokens of a slot that holds any of these, with room for an output.

        Inputs that join are padded to one width, whatever stands before them.
        """
        inputs = max(len(call.tokens) for call in joining)
        padded = max(len(call.prefix) for call in joining) + inputs
        longest = max([padded, *(row.length for row in rows)])
        return min(longest + self._room, self._base.window + 1)

    def note_output(self, num_tokens: int) -> None:
        """Take the length of an output into account for the room that the next ones get."""
        self._room = max(num_tokens, ROOM_TOKENS, self._room - 1)

    def _fits(self, joining: Sequence[Call], rows: Sequence[Generation]) -> bool:
        """Return whether calls can run with `rows`: their adapters and their memory."""
        calls = [row.call for row in rows] + list(joining)
        if len(calls) == 1:
            return True
        programs = {call.program for call in calls}
        kinds = {self._bank.kind(program) for program in programs} - {None}
        if len(kinds) > 1 or not self._bank.fits(programs):
            return False
        longest = self.slot_tokens(rows, joining)
        spare = self._slots.capacity if self._slots.capacity <= 2 * longest else 0
        return len(calls) * max(longest, spare) * self._token_bytes <= self._max_bytes()
