"""The bank: which programs are in memory, and what every group of linear layers runs.

    all rows without an adapter    the bare base
    all rows one program           the hot form, once heating has paid: kernels like the base's
    anything else                  rows of the bank, each pointing at its program's slot

Switching between resident programs is another index. Beyond the budget the least recently
used leave, and come back from `program.adapter`, a view of the program's file where its
container allows that; a rank larger than all before starts the slots anew. Neither changes a
number. Programs are held weakly: one that nobody else holds leaves its slot free.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary, ref

import mlx.core as mx

from ..program import Program
from .hot import heat
from .parallel import Form, Parallel
from .rows import Dense, Layout, Packed, Storage

# Heating Qwen3's rank 64 takes some 100 ms, and the hot form then saves half of one per token.
_PATIENCE = 128


class Bank:
    """The resident programs of one base. One thread at a time.

    `packed` keeps programs whose A and B are all q4_0 in 4 bits; others are in `dtype`, the
    base's. `max_bytes` bounds the slots, but never below what one forward pass needs.
    `always_hot` runs every program alone and hot, so that no batch changes its arithmetic.
    """

    def __init__(
        self,
        groups: Sequence[Parallel],
        dtype: mx.Dtype,
        *,
        packed: bool,
        max_bytes: int,
        always_hot: bool = False,
    ) -> None:
        self._groups, self._max_bytes = groups, max_bytes
        self._is_packed, self.always_hot = packed, always_hot
        self._kinds = {
            "packed": _Kind(groups, Packed(dtype)),
            "dense": _Kind(groups, Dense(dtype)),
        }
        self._bare: list[Form | None] = [None] * len(groups)
        self._shown: Sequence[Form | None] = ()  # the forms that the groups have now
        self._rows = _NONE  # what the last rows pointed at
        self._hot: _Hot | None = None
        self._alone: ref[Program] | None = None  # who runs alone, and for how many passes
        self._passes = 0

    def use(self, programs: Sequence[Program]) -> None:
        """Prepare the next forward pass, in which row i runs programs[i].

        Rows with adapters are of one `kind`. Nearly free where nothing changed.
        """
        first = programs[0]
        if first.adapter is None or any(program is not first for program in programs):
            self._alone = None
            self._use_rows(programs)
            return
        if self._alone is None or self._alone() is not first:
            self._alone, self._passes = ref(first), 0
        self._passes += 1
        if self._deserves_heat(first):
            self._use_hot(first)
        else:
            self._use_rows(programs)

    def heat(self, program: Program) -> None:
        """Let the next forward passes run one program in every row, however many there are."""
        if program.adapter is None:
            self._show(self._bare)
        else:
            self._use_hot(program)

    def kind(self, program: Program) -> Hashable:
        """Rows of different kinds cannot share a forward pass; None goes with any."""
        return self._layout(program) if program.adapter else None

    def fits(self, programs: Collection[Program]) -> bool:
        """Whether so many programs can be resident at once; one always can."""
        adapted = {program for program in programs if program.adapter}
        if len(adapted) <= 1:
            return True
        needed = 0
        for layout, kind in self._kinds.items():
            if members := [p for p in adapted if self._layout(p) == layout]:
                needed += kind.bytes_for(members)
        return needed <= self._max_bytes

    def resident_bytes(self, program: Program) -> int:
        """What a program takes while it has a slot, at the rank that slots have then."""
        return self._kinds[self._layout(program)].slot_bytes([program]) if program.adapter else 0

    @property
    def nbytes(self) -> int:
        """What all slots take, free ones too."""
        return sum(kind.nbytes for kind in self._kinds.values())

    @property
    def num_resident(self) -> int:
        """How many programs have a slot or are hot."""
        hot = self._hot and self._hot.program()
        return len({p for kind in self._kinds.values() for p in kind.places} | {hot} - {None})

    def close(self) -> None:
        """Give the memory back; the groups run the bare base."""
        self._show(self._bare)
        self._hot = self._alone = None
        for kind in self._kinds.values():
            kind.clear()

    def _layout(self, program: Program) -> str:
        assert program.adapter is not None
        return "packed" if self._is_packed and program.adapter.dtypes == ("q4_0",) else "dense"

    def _deserves_heat(self, program: Program) -> bool:
        """Heating costs what a hundred tokens save, and loading a slot about as much.

        So programs that take turns stay rows, and one that stays alone becomes hot.
        """
        hot = self._hot and self._hot.program()
        if hot is program or self.always_hot or self._passes > _PATIENCE:
            return True
        return hot is None and all(program not in kind.places for kind in self._kinds.values())

    def _use_hot(self, program: Program) -> None:
        if self._hot is None or self._hot.program() is not program:
            assert program.adapter is not None
            self._hot, self._shown = None, ()
            heat(self._groups, program.adapter)
            self._hot = _Hot(ref(program), [group.form for group in self._groups])
        self._show(self._hot.forms)

    def _use_rows(self, programs: Sequence[Program]) -> None:
        if self._shows(programs):
            return
        adapted = list(dict.fromkeys(program for program in programs if program.adapter))
        if adapted:
            (layout,) = {self._layout(program) for program in adapted}
            kind = self._kinds[layout]
            self._rows = _NONE  # should the next lines fail
            kind.seat(adapted, self._room(kind, adapted))
            kind.point(programs)
        self._show(kind.forms if adapted else self._bare)
        self._rows = _Rows(self._shown, [ref(program) for program in programs])

    def _shows(self, programs: Sequence[Program]) -> bool:
        """Whether the groups run exactly these rows now."""
        forms, rows = self._rows
        return (
            forms is self._shown
            and len(rows) == len(programs)
            and all(row() is program for row, program in zip(rows, programs, strict=True))
        )

    def _room(self, kind: _Kind, programs: Collection[Program]) -> int:
        """The bytes that a kind may take; the others leave if these programs need theirs."""
        others = [other for other in self._kinds.values() if other is not kind]
        room = self._max_bytes - sum(other.nbytes for other in others)
        if kind.bytes_for(programs) <= room:
            return room
        for other in others:
            other.clear()
        return self._max_bytes

    def _show(self, forms: Sequence[Form | None]) -> None:
        if forms is not self._shown:
            for group, form in zip(self._groups, forms, strict=True):
                group.form = form
            self._shown = forms


class _Hot(NamedTuple):
    program: ref[Program]
    forms: Sequence[Form | None]


class _Rows(NamedTuple):
    forms: Sequence[Form | None]
    programs: list[ref[Program]]


_NONE = _Rows((), [])


class _Kind:
    """The slots of one layout, and the programs in them, the least recently used first."""

    def __init__(self, groups: Sequence[Parallel], layout: Layout) -> None:
        self._groups, self._layout = groups, layout
        self._columns = sum(len(g.sites) * g.d_in + sum(g.d_outs) for g in groups)
        self._storage: Storage | None = None
        self.places: WeakKeyDictionary[Program, int] = WeakKeyDictionary()

    @property
    def forms(self) -> Sequence[Form]:
        return self._storage.forms if self._storage else ()

    @property
    def capacity(self) -> int:
        """How many slots there are, the one of zeros included."""
        return self._storage.capacity if self._storage else 0

    @property
    def nbytes(self) -> int:
        return self.capacity * self.slot_bytes([])

    def slot_bytes(self, programs: Collection[Program]) -> int:
        """What a slot takes once these programs are here."""
        return self._layout.nbytes(self._rank(programs) * self._columns)

    def bytes_for(self, programs: Collection[Program]) -> int:
        """What slots for just these programs take."""
        return (1 + len(programs)) * self.slot_bytes(programs)

    def seat(self, programs: Collection[Program], max_bytes: int) -> None:
        """Give every one of these programs a slot; others leave if the bytes are not enough."""
        rank = self._rank(programs)
        if self._storage is None or rank > self._storage.rank:
            self.clear()
            self._storage = Storage(self._groups, self._layout, rank)
        absent = [program for program in programs if program not in self.places]
        self._reserve(self._storage, len(absent), len(programs), max_bytes)
        for program in programs:
            slot = self.places.pop(program, None) or self._free_slot(programs)
            if program in absent:
                assert program.adapter is not None
                self._storage.write(slot, program.adapter)
            self.places[program] = slot  # now the most recently used

    def point(self, programs: Sequence[Program]) -> None:
        """Let the rows of the next forward passes run these programs."""
        assert self._storage is not None
        self._storage.point([self.places.get(program, 0) for program in programs])

    def clear(self) -> None:
        """Give the memory back."""
        self.places.clear()
        if self._storage:
            self._storage.clear()
            self._storage = None
            mx.clear_cache()

    def _rank(self, programs: Collection[Program]) -> int:
        ranks = [program.adapter.ranks[-1] for program in programs if program.adapter]
        return max([self._storage.rank if self._storage else 0, *ranks])

    def _reserve(self, storage: Storage, absent: int, present: int, max_bytes: int) -> None:
        """Double the slots if too few are free, up to `max_bytes` or what is needed now."""
        wanted = 1 + len(self.places) + absent
        if wanted > storage.capacity:
            most = max_bytes // self.slot_bytes([])
            wanted = max(1 + present, min(most, max(wanted, 2 * storage.capacity)))
            if wanted > storage.capacity:
                storage.grow(wanted)

    def _free_slot(self, staying: Collection[Program]) -> int:
        """A slot that nobody has, or that of the least recently used program to leave."""
        free = set(range(1, self.capacity)) - set(self.places.values())
        if free:
            return min(free)
        leaving = next(program for program in self.places if program not in staying)
        return self.places.pop(leaving)
