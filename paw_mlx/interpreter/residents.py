"""The prefixes of programs, evaluated: in memory, on disk, or made on first use."""

from __future__ import annotations

from weakref import WeakKeyDictionary, WeakSet

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
        self._held: WeakKeyDictionary[Program, KV] = WeakKeyDictionary()  # the oldest use first
        self._unsaved: WeakSet[Program] = WeakSet()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, program: Program) -> KV:
        """A program's prefix (B = 1), evaluated. Never write into it."""
        kv = self._held.pop(program, None)
        is_new = kv is None
        kv = self._held[program] = kv or self._read(program) or self._make(program)
        if is_new:
            self._forget()
        return kv

    def keep(self) -> None:
        """Write what was made to disk, for the next process; a good time is when idle."""
        for program in list(self._unsaved):
            self._save(program)

    def clear(self) -> None:
        """Give the memory back."""
        self._held.clear()
        self._unsaved.clear()

    def _read(self, program: Program) -> KV | None:
        tokens = self._tokens(program)
        if len(tokens) < _WORTH_TOKENS:
            return None
        layers = self._cache.load(self._key(program))
        return KV.of(layers) if layers and layers[0][0].shape[2] == len(tokens) else None

    def _make(self, program: Program) -> KV:
        kv, tokens = KV(self._base.model.num_layers), self._tokens(program)
        if tokens:
            self._bank.use([program])
            prefill(self._base.model, tokens, kv)
            mx.eval(kv.arrays)
        if len(tokens) >= _WORTH_TOKENS:
            self._unsaved.add(program)
        return kv

    def _save(self, program: Program) -> None:
        self._unsaved.discard(program)
        if kv := self._held.get(program):
            self._cache.save(self._key(program), [layer for layer in kv.layers if layer])

    def _key(self, program: Program) -> str:
        return prefix_key(self._base, program, alone=self._bank.always_hot)

    def _tokens(self, program: Program) -> list[int]:
        return self._base.tokenizer.encode(program.template.prefix, control=True)

    def _forget(self) -> None:
        """Let go of the least recently used beyond the budget, the newest one excepted."""
        total = sum(kv.nbytes for kv in self._held.values())
        for program, kv in list(self._held.items())[:-1]:
            if total <= self._max_bytes:
                return
            if program in self._unsaved:
                self._save(program)
            del self._held[program]
            total -= kv.nbytes
