"""Which programs have a slot: the least recently used leave when the bytes are not enough."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from weakref import WeakKeyDictionary

import mlx.core as mx

from ...program import Program
from .parallel import Parallel
from .slots import AdapterSlots, Encoding, SlotForm


class SlotCache:
    """The slots of one encoding, in every group, and the programs in them.

    Programs are held weakly: one that nobody else holds leaves its slot free.
    """

    def __init__(
        self, groups: Sequence[Parallel], encoding: Encoding, before_change: Callable[[], None]
    ) -> None:
        self._groups, self._encoding, self._before_change = groups, encoding, before_change
        self._columns = sum(len(g.sites) * g.d_in + sum(g.d_outs) for g in groups)
        self._slots: AdapterSlots | None = None
        self._places: WeakKeyDictionary[Program, int] = WeakKeyDictionary()  # oldest use first

    def __contains__(self, program: Program) -> bool:
        return program in self._places

    @property
    def forms(self) -> Sequence[SlotForm]:
        """What the groups run; none before `seat`."""
        return self._slots.forms if self._slots else ()

    @property
    def slots(self) -> AdapterSlots | None:
        """The slots themselves; None before `seat`."""
        return self._slots

    @property
    def nbytes(self) -> int:
        """What all slots take, free ones and that of zeros too."""
        return self._capacity * self.slot_bytes([])

    def slot_bytes(self, programs: Collection[Program]) -> int:
        """Return what a slot takes once these programs are here."""
        return self._encoding.nbytes(self._rank(programs) * self._columns)

    def bytes_for(self, programs: Collection[Program]) -> int:
        """Return what slots for just these programs take."""
        return (1 + len(programs)) * self.slot_bytes(programs)

    def seat(self, programs: Collection[Program], max_bytes: int) -> None:
        """Give every one of these programs a slot; others leave if the bytes are not enough."""
        rank = self._rank(programs)
        if self._slots is None or rank > self._slots.rank:
            self.clear()
            self._slots = AdapterSlots(self._groups, self._encoding, rank)
        absent = [program for program in programs if program not in self._places]
        if absent:
            self._before_change()
            self._reserve(self._slots, len(absent), len(programs), max_bytes)
        for program in programs:
            slot = self._places.pop(program, None) or self._free_slot(programs)
            if program in absent:
                assert program.adapter is not None
                self._slots.write(slot, program.adapter)
            self._places[program] = slot  # now the most recently used

    def point(self, programs: Sequence[Program]) -> None:
        """Let the rows of the next forward passes run these programs."""
        assert self._slots is not None
        self._slots.point([self._places.get(program, 0) for program in programs])

    def trim(self, max_bytes: int) -> None:
        """Give slots back beyond these bytes; rows have to be pointed anew."""
        most = max_bytes // self.slot_bytes([]) if self._slots else 0
        if self._slots is None or most >= self._slots.capacity:
            return
        if most < 2:  # no room beside the slot of zeros
            self.clear()
            return
        self._before_change()
        staying = list(self._places.items())[1 - most :]
        self._places.clear()  # should the next line fail
        self._slots.keep([slot for _, slot in staying])
        for slot, (program, _) in enumerate(staying, 1):
            self._places[program] = slot

    def clear(self) -> None:
        """Give the memory back."""
        self._places.clear()
        if self._slots:
            self._before_change()
            self._slots.clear()
            self._slots = None
            mx.clear_cache()

    @property
    def _capacity(self) -> int:
        return self._slots.capacity if self._slots else 0

    def _rank(self, programs: Collection[Program]) -> int:
        ranks = [program.adapter.ranks[-1] for program in programs if program.adapter]
        return max([self._slots.rank if self._slots else 0, *ranks])

    def _reserve(self, slots: AdapterSlots, absent: int, present: int, max_bytes: int) -> None:
        """Double the slots if too few are free, up to `max_bytes` or what is needed now."""
        wanted = 1 + len(self._places) + absent
        if wanted > slots.capacity:
            most = max_bytes // self.slot_bytes([])
            wanted = max(1 + present, min(most, max(wanted, 2 * slots.capacity)))
            if wanted > slots.capacity:
                slots.grow(wanted)

    def _free_slot(self, staying: Collection[Program]) -> int:
        """Return a slot that nobody has, or that of the least recently used that may leave."""
        free = set(range(1, self._capacity)) - set(self._places.values())
        if free:
            return min(free)
        leaving = next(program for program in self._places if program not in staying)
        return self._places.pop(leaving)
