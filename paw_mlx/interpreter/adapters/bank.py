"""The bank: which programs are in memory, and what every group of linear layers runs.

    all rows without an adapter    the bare base
    all rows one program           the hot form, once heating has paid: kernels like the base's
    anything else                  slots, each row pointing at its program's

Switching between resident programs is another index. Beyond the budget the least recently
used leave, and come back from `program.adapter`, a view of the program's file where its
container allows that; a rank larger than all before starts the slots anew. Neither changes a
number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple
from weakref import ref

import mlx.core as mx

from ...program import Program
from .hot import heat
from .parallel import Form, Parallel
from .slot_cache import SlotCache
from .slots import AdapterSlots, DenseEncoding, PackedEncoding, SlotIndices

# Heating Qwen3's rank 64 takes some 100 ms, and the hot form then saves half of one per token.
_PATIENCE = 128


class _Hot(NamedTuple):
    """Who was heated, and the forms that this made."""

    program: ref[Program]
    forms: Sequence[Form | None]


class Bank:
    """The resident programs of one base. One thread at a time.

    `packed` keeps programs whose A and B are all q4_0 in 4 bits; others are in `dtype`, the
    base's. `max_bytes`, asked whenever it matters, bounds the slots, but never below what one
    forward pass needs. `always_hot` runs every program alone and hot, so that no batch changes
    its arithmetic.
    """

    def __init__(
        self,
        groups: Sequence[Parallel],
        dtype: mx.Dtype,
        *,
        packed: bool,
        max_bytes: Callable[[], int],
        always_hot: bool = False,
    ) -> None:
        self._groups, self._max_bytes = groups, max_bytes
        self._is_packed, self.always_hot = packed, always_hot
        self.before_change: Callable[[], object] = lambda: None  # heard before arrays are written
        own = ref(self)  # or bank and caches would keep each other

        def announce() -> None:
            if bank := own():
                bank.before_change()

        self._caches = {
            name: SlotCache(groups, encoding, announce)
            for name, encoding in (
                ("packed", PackedEncoding(dtype)),
                ("dense", DenseEncoding(dtype)),
            )
        }
        self._bare: Sequence[Form | None] = [None] * len(groups)
        self._shown: Sequence[Form | None] = ()  # the forms that the groups have now
        self._rows: list[ref[Program]] = []  # the programs of their rows, where that matters
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
            self._use_slots(programs)
            return
        if self._alone is None or self._alone() is not first:
            self._alone, self._passes = ref(first), 0
        self._passes += 1
        if self._deserves_heat(first):
            self._use_hot(first)
        else:
            self._use_slots(programs)

    def heat(self, program: Program) -> None:
        """Let the next forward passes run one program in every row, however many there are."""
        if program.adapter is None:
            self.use_bare()
        else:
            self._use_hot(program)

    def use_bare(self) -> None:
        """Let the next forward passes run the bare base."""
        self._show(self._bare)

    def kind(self, program: Program) -> Hashable:
        """Return what programs must share to share a forward pass; None goes with any."""
        return self._encoding(program) if program.adapter else None

    def fits(self, programs: Collection[Program]) -> bool:
        """Return whether so many programs can be resident at once; one always can."""
        adapted = {program for program in programs if program.adapter}
        if len(adapted) <= 1:
            return True
        needed = 0
        for encoding, cache in self._caches.items():
            if members := [p for p in adapted if self._encoding(p) == encoding]:
                needed += cache.bytes_for(members)
        return needed <= self._max_bytes()

    def resident_bytes(self, program: Program) -> int:
        """Return what a program takes while it has a slot, at the rank that slots have then."""
        if program.adapter is None:
            return 0
        return self._caches[self._encoding(program)].slot_bytes([program])

    @property
    def nbytes(self) -> int:
        """What all slots take, free ones too."""
        return sum(cache.nbytes for cache in self._caches.values())

    @property
    def form_id(self) -> int:
        """Which forms the groups run now; their arrays stay until `before_change` is heard."""
        return id(self._shown)

    @property
    def indices(self) -> list[mx.array]:
        """What says which slot each row runs; none where all rows run alike."""
        slots = self._shown_slots()
        return [array for indices in slots.indices for array in indices] if slots else []

    @contextmanager
    def traced(self, indices: Sequence[mx.array]) -> Iterator[None]:
        """Let forward passes take other `indices`: those of a function that is being traced."""
        slots = self._shown_slots()
        if slots is None:
            yield
            return
        own, size = slots.indices, len(SlotIndices._fields)
        parts = [indices[i : i + size] for i in range(0, len(indices), size)]
        slots.use([SlotIndices(*arrays) for arrays in parts])
        try:
            yield
        finally:
            slots.use(own)

    def trim(self) -> None:
        """Give slots back beyond a budget that has shrunk, between forward passes.

        The least recently used programs leave, those of the encoding that runs now last.
        """
        max_bytes = self._max_bytes()
        if self.nbytes <= max_bytes:
            return
        self._rows = []  # where the programs are changes
        for cache in sorted(self._caches.values(), key=lambda cache: cache.forms is self._shown):
            cache.trim(max_bytes - (self.nbytes - cache.nbytes))

    def close(self) -> None:
        """Give the memory back; the groups run the bare base."""
        self.use_bare()
        self._hot = self._alone = None
        for cache in self._caches.values():
            cache.clear()

    def _shown_slots(self) -> AdapterSlots | None:
        """Return the slots that the groups run; None if they run none."""
        shown = (cache.slots for cache in self._caches.values() if cache.forms is self._shown)
        return next(shown, None)

    def _encoding(self, program: Program) -> str:
        assert program.adapter is not None
        return "packed" if self._is_packed and program.adapter.dtypes == ("q4_0",) else "dense"

    def _deserves_heat(self, program: Program) -> bool:
        """Return whether to make a program hot that runs alone.

        Heating costs what a hundred tokens save, and loading a slot about as much. So programs
        that take turns stay in slots, and one that stays alone becomes hot.
        """
        hot = self._hot and self._hot.program()
        if hot is program or self.always_hot or self._passes > _PATIENCE:
            return True
        return hot is None and all(program not in cache for cache in self._caches.values())

    def _use_hot(self, program: Program) -> None:
        if self._hot is None or self._hot.program() is not program:
            assert program.adapter is not None
            self._hot, self._shown, self._rows = None, (), []
            self.before_change()
            heat(self._groups, program.adapter)
            self._hot = _Hot(ref(program), [group.form for group in self._groups])
        self._show(self._hot.forms)

    def _use_slots(self, programs: Sequence[Program]) -> None:
        if self._shows(programs):
            return
        self._rows = []  # should the next lines fail
        adapted = list(dict.fromkeys(program for program in programs if program.adapter))
        if adapted:
            (encoding,) = {self._encoding(program) for program in adapted}
            cache = self._caches[encoding]
            cache.seat(adapted, self._make_room(cache, adapted))
            cache.point(programs)
            self._show(cache.forms)
        else:
            self._show(self._bare)
        self._rows = [ref(program) for program in programs]

    def _shows(self, programs: Sequence[Program]) -> bool:
        """Return whether the groups run exactly these rows now."""
        return len(self._rows) == len(programs) and all(
            row() is program for row, program in zip(self._rows, programs, strict=True)
        )

    def _make_room(self, cache: SlotCache, programs: Collection[Program]) -> int:
        """Return the bytes a cache may take; the others are emptied if these programs need it."""
        max_bytes = self._max_bytes()
        others = [other for other in self._caches.values() if other is not cache]
        room = max_bytes - sum(other.nbytes for other in others)
        if cache.bytes_for(programs) <= room:
            return room
        for other in others:
            other.clear()
        return max_bytes

    def _show(self, forms: Sequence[Form | None]) -> None:
        if forms is not self._shown:
            for group, form in zip(self._groups, forms, strict=True):
                group.form = form
            self._shown, self._rows = forms, []
