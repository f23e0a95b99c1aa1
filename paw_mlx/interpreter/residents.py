"""The prefixes of programs, evaluated: in memory, on disk, or made on first use."""

from __future__ import annotations

from collections import OrderedDict
from weakref import WeakKeyDictionary, ref

import mlx.core as mx

from ..program import Program
from .bank import Bank
from .decode import prefill
from .kv import KV
from .prefixes import PrefixCache, prefix_key
from .weights import Base

_WORTH_TOKENS = 32  # a shorter prefix is evaluated faster than it is read


class Prefixes:
    """The KV of every program's prefix; the least recently used leave memory at `max_bytes`."""

    def __init__(self, base: Base, bank: Bank, cache: PrefixCache, max_bytes: int) -> None:
        self._base, self._bank, self._cache, self._max_bytes = base, bank, cache, max_bytes
        self._held: WeakKeyDictionary[Program, KV] = WeakKeyDictionary()
        self._order: OrderedDict[ref[Program], None] = OrderedDict()
        self._unsaved: list[ref[Program]] = []

    def __len__(self) -> int:
        return len(self._held)

    def get(self, program: Program) -> KV:
        """A program's prefix (B = 1), evaluated. Never write into it."""
        kv = self._held.get(program)
        if kv is None:
            kv = self._read(program) or self._make(program)
            self._held[program] = kv
        self._order[ref(program)] = None
        self._order.move_to_end(ref(program))
        self._forget()
        return kv

    def keep(self) -> None:
        """Write what was made to disk, for the next process; a good time is when idle."""
        unsaved, self._unsaved = self._unsaved, []
        for program in (known() for known in unsaved):
            if program is not None and (kv := self._held.get(program)):
                layers = [layer for layer in kv.layers if layer]
                self._cache.save(prefix_key(self._base, program), layers)

    def clear(self) -> None:
        """Give the memory back."""
        self._held.clear()
        self._order.clear()

    def _read(self, program: Program) -> KV | None:
        tokens = self._tokens(program)
        if len(tokens) < _WORTH_TOKENS:
            return None
        layers = self._cache.load(prefix_key(self._base, program))
        return KV.of(layers) if layers and layers[0][0].shape[2] == len(tokens) else None

    def _make(self, program: Program) -> KV:
        kv, tokens = KV(self._base.model.num_layers), self._tokens(program)
        if tokens:
            self._bank.use([program])
            prefill(self._base.model, tokens, kv)
            mx.eval(kv.arrays)
        if len(tokens) >= _WORTH_TOKENS:
            self._unsaved.append(ref(program))
        return kv

    def _tokens(self, program: Program) -> list[int]:
        return self._base.tokenizer.encode(program.template.prefix, control=True)

    def _forget(self) -> None:
        """Let go of the least recently used beyond the budget, and of programs that are gone."""
        while len(self._order) > 1:
            oldest = next(iter(self._order))
            program = oldest()
            total = sum(kv.nbytes for kv in self._held.values())
            if program is not None and total <= self._max_bytes:
                return
            del self._order[oldest]
            if program is not None:
                del self._held[program]
