"""Bases and programs that stay in memory between calls, and leave it when nobody calls.

A base is loaded when it is first called and unloaded after a while without calls; the functions
on it stay valid, and load it again. A program's file is looked at on every call: one that was
replaced, or a name with a new version, is read anew.
"""

from __future__ import annotations

import gc
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from .. import formats, hub
from ..annotations import output_of, retype
from ..client.stamps import file_key
from ..functions import Function
from ..interpreter import Interpreter
from ..interpreter.shared import function
from ..profiles import base_name
from ..program import Program
from ..runner import Options, Pieces, Result

_MAX_PROGRAMS = 128  # in memory at once; their weights are the interpreter's business


class ResidentBase:
    """A base as a `Runner`: loaded by a call, unloaded by `unload` when none runs.

    It is fetched if it is not here, unless its last caller wished to be `offline`.
    """

    def __init__(self, reference: str, bits: int | None, group_size: int) -> None:
        self.reference, self._bits, self._group_size = reference, bits, group_size
        self.offline = False
        self._interpreter: Interpreter | None = None
        self._lock = threading.RLock()
        self.num_calls = self._num_holding = 0

    @property
    def live(self) -> Interpreter:
        """The interpreter, loaded if it is not in memory."""
        with self._lock:
            if self._interpreter is None or self._interpreter.closed:
                self._interpreter = Interpreter.load(
                    self.reference,
                    bits=self._bits,
                    group_size=self._group_size,
                    offline=self.offline,
                )
            return self._interpreter

    @contextmanager
    def held(self, num_calls: int = 0) -> Iterator[Interpreter]:
        """Keep it in memory during the block, which begins so many calls; loaded if it is not."""
        with self._lock:
            interpreter = self.live
            self._num_holding += 1
            self.num_calls += num_calls
        try:
            yield interpreter
        finally:
            with self._lock:
                self._num_holding -= 1

    @property
    def loaded(self) -> bool:
        """Whether it is in memory now."""
        return self._interpreter is not None

    @property
    def idle_s(self) -> float:
        """Seconds since the last call ended; 0 while one runs, or where it is not in memory."""
        interpreter = self._interpreter
        return interpreter.idle_s if interpreter else 0.0

    @property
    def max_in_flight(self) -> int:
        with self.held() as interpreter:
            return interpreter.max_in_flight

    @property
    def identity(self) -> dict[str, Any]:
        with self.held() as interpreter:
            return interpreter.identity

    def submit(self, program: Program, text: str, options: Options) -> Future[Result]:
        """Hand over one input, as `Runner` has it."""
        with self.held(num_calls=1) as interpreter:  # not under the lock: a long text takes a while
            return interpreter.submit(program, text, options)

    def run(self, program: Program, text: str, options: Options) -> Result:
        """Return the output for one input."""
        future = self.submit(program, text, options)
        try:
            return future.result()
        finally:
            future.cancel()

    def stream(self, program: Program, text: str, options: Options) -> Pieces:
        """Return the output for one input in pieces."""
        with self.held(num_calls=1) as interpreter:
            return interpreter.stream(program, text, options)

    def cut_tokens(self, program: Program, text: str, options: Options) -> int:
        """Return how many tokens of an input `overflow` leaves out."""
        with self.held() as interpreter:
            return interpreter.cut_tokens(program, text, options)

    def unload(self, idle_s: float = 0.0) -> bool:
        """Give its memory back if it is there and nobody has called for so long; say if it did."""
        with self._lock:
            interpreter = self._interpreter
            if interpreter is None or self._num_holding or interpreter.idle_s < idle_s:
                return False
            interpreter.close()
            self._interpreter = None
        del interpreter
        gc.collect()
        return True

    def close(self) -> None:
        """Do nothing: it is others' as well."""


@dataclass(frozen=True)
class _Kept:
    """A program as it was read: the key of its file tells whether it still is that."""

    key: str
    program: Program


class Residents:
    """Functions by reference, whose bases and programs stay in memory. Safe from any thread.

    With `idle_s`, a base leaves memory after so many seconds without a call, looked at by
    `unload_idle`, which a thread of its own calls unless `watch` is off.
    """

    def __init__(self, idle_s: float | None = None, *, watch: bool = True) -> None:
        self.idle_s = idle_s
        self._bases: dict[tuple[str, int | None, int], ResidentBase] = {}
        self._programs: OrderedDict[str, _Kept] = OrderedDict()
        self._checked: WeakKeyDictionary[Program, set[tuple[ResidentBase, bool]]]
        self._checked = WeakKeyDictionary()  # on which bases a program was found to run
        self._lock = threading.Lock()
        self._closed = threading.Event()
        if idle_s is not None and watch:
            threading.Thread(target=self._watch, name="paw-mlx-idle", daemon=True).start()

    @property
    def bases(self) -> list[ResidentBase]:
        """The bases that are in memory, or were called."""
        with self._lock:
            return [base for base in self._bases.values() if base.loaded or base.num_calls]

    def function(
        self,
        program: str | Program,
        *,
        interpreter: str | None = None,
        bits: int | None = None,
        group_size: int = 64,
        strict: bool = False,
        offline: bool = False,
        **types: Any,
    ) -> Function:
        """Return a function as `paw_mlx.function` does, with its keywords and its errors."""
        found = program if isinstance(program, Program) else self.program(program, offline=offline)
        found = self.typed(found, types)
        reference = interpreter or base_name(found.interpreter)
        base = self._base(reference, bits, group_size, offline)
        with self._lock:
            checked = self._checked.setdefault(found, set())
        if (base, strict) not in checked:
            with base.held() as live:
                function(found, interpreter=live, strict=strict)
            checked.add((base, strict))
        return Function(base, found)

    def unload_idle(self) -> list[str]:
        """Unload the bases that nobody has called for `idle_s`; return their references."""
        limit = self.idle_s or 0.0
        return [base.reference for base in self.bases if base.unload(limit)]

    def close(self) -> None:
        """Unload all."""
        self._closed.set()
        for base in self.bases:
            base.unload()

    def program(self, reference: str, *, offline: bool = False) -> Program:
        """Return a program as its file has it now: the same object while that is the same."""
        path = hub.resolve_program(reference, offline=offline)
        key = file_key(path)
        with self._lock:
            kept = self._programs.get(str(path))
        if kept is None or kept.key != key or path.is_dir():
            kept = _Kept(key, formats.load(path))
            self._keep(str(path), kept)
        return kept.program

    def typed(self, program: Program, keywords: Mapping[str, Any]) -> Program:
        """Return a program with the type of outputs that keywords of `paw_mlx.function` say.

        The same object for the same wish.
        """
        if all(value is None for value in keywords.values()):
            return program
        wishes = {name: keywords.get(name) for name in ("threshold", "otherwise")}
        types = {name: value for name, value in keywords.items() if name not in wishes}
        typed = retype(program, output_of(**types), **wishes)
        record = json.dumps([program.digest(), typed.output.record()], sort_keys=True, default=repr)
        with self._lock:
            kept = self._programs.get(record)
        if kept and kept.program.output.build is typed.output.build:
            return kept.program
        self._keep(record, _Kept("", typed))
        return typed

    def _keep(self, key: str, kept: _Kept) -> None:
        with self._lock:
            self._programs[key] = kept
            self._programs.move_to_end(key)
            while len(self._programs) > _MAX_PROGRAMS:
                self._programs.popitem(last=False)

    def _base(
        self, reference: str, bits: int | None, group_size: int, offline: bool
    ) -> ResidentBase:
        key = reference, bits, group_size
        with self._lock:
            base = self._bases.setdefault(key, ResidentBase(*key))
            base.offline = offline
            return base

    def _watch(self) -> None:
        while not self._closed.wait(min(5.0, (self.idle_s or 0.0) / 4 + 0.05)):
            self.unload_idle()
