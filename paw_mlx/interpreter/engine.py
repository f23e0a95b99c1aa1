"""The interpreter: one frozen base, any number of programs.

A program's LoRA and the KV of its prefix are made on its first use and stay as long as the
`Program` object lives; switching between programs assigns references and loads nothing.
Calls from several threads are safe: they take turns, token by token.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from weakref import WeakKeyDictionary, finalize

import mlx.core as mx

from .. import hub
from ..adapter import Site
from ..cases import Case
from ..errors import AdapterMismatch, ClosedError, InputTooLong, OptionError
from ..profiles import Profile, find_profile
from ..program import Program
from ..wheels import Progress, quiet
from . import lora
from .decode import Options, decode, prefill
from .drift import check_drift
from .function import Function, Piece, Result
from .kv import KV
from .scoring import Score, score
from .weights import Base, load_base


@dataclass(frozen=True)
class Resident:
    """What a program keeps in memory: its LoRA as MLX wants it and its prefix, evaluated."""

    pairs: Mapping[Site, lora.Pair]
    prefix: KV


class Interpreter:
    """One base in memory. A context manager: leaving it gives the memory back."""

    def __init__(self, base: Base) -> None:
        self._base: Base | None = base
        self._sites = lora.wrap_sites(base.model, base.profile)
        self._residents: WeakKeyDictionary[Program, Resident] = WeakKeyDictionary()
        self._active: Program | None = None
        self._lock = threading.RLock()
        finalize(self, mx.clear_cache)

    @classmethod
    def load(
        cls,
        reference: str,
        *,
        bits: int | None = None,
        group_size: int = 64,
        offline: bool = False,
        progress: Progress = quiet,
    ) -> Interpreter:
        """Load a base: a profile's name, a hub repo, a directory, or a GGUF file.

        `bits` 4, 6 or 8 quantizes on load, in groups of `group_size` (kept on disk for the
        next time); 16 makes it dense; None takes it as stored, dense where there is no GPU.
        `progress` hears a line before a long step.
        Raises NotFound, HubError, OfflineError, FormatError or OptionError.
        """
        path = hub.resolve_base(reference, offline=offline, progress=progress)
        return cls(load_base(path, bits=bits, group_size=group_size, progress=progress))

    @property
    def base(self) -> Base:
        if self._base is None:
            raise ClosedError("the interpreter is closed")
        return self._base

    @property
    def closed(self) -> bool:
        return self._base is None

    @property
    def device(self) -> str:
        """Where MLX computes: `gpu` or `cpu`."""
        return mx.default_device().type.name

    @property
    def peak_bytes(self) -> int:
        """The most memory MLX has held in this process so far."""
        return mx.get_peak_memory()

    @property
    def profile(self) -> Profile:
        """The base's profile."""
        return self.base.profile

    def function(self, program: Program, *, strict: bool = False) -> Function:
        """Bind a program, checked as `check` does."""
        self.check(program, strict=strict)
        return Function(self, program)

    def check(self, program: Program, *, strict: bool = False) -> None:
        """Raise AdapterMismatch unless the program fits this base.

        One that fits, but was compiled for other weights, gets a DriftWarning, once in a
        process; AdapterMismatch too if `strict`.
        """
        made_for = find_profile(program.interpreter)
        if made_for is not None and not made_for.fits(self.profile):
            raise AdapterMismatch(
                f"the program was made for {made_for.name}, and this base is {self.profile.name}",
                hint=f"Run it on {made_for.repo}.",
            )
        if program.adapter is not None:
            program.adapter.check(self.profile)
        check_drift(program, self.base, strict=strict)

    def run(self, program: Program, text: str, options: Options | None = None) -> Result:
        """The output of a program for one input, stripped, with counts and seconds."""
        options = options or Options()
        resident = self._resident(program)
        tokens, limit = self._prompt(program, resident, text, options)
        start = first = time.perf_counter()
        pieces: list[Piece] = []
        for piece in self._pieces(program, resident, tokens, limit, options):
            if not pieces:
                first = time.perf_counter()
            pieces.append(piece)
        return Result(
            text="".join(piece.text for piece in pieces),
            finish_reason=pieces[-1].finish_reason or "stop",
            prefix_tokens=resident.prefix.offset,
            input_tokens=len(tokens),
            output_tokens=len(pieces),
            prefill_s=first - start,
            decode_s=time.perf_counter() - first,
        )

    def stream(self, program: Program, text: str, options: Options | None = None) -> Iterator[str]:
        """The output of a program for one input, in pieces; they join to `run`'s text."""
        options = options or Options()
        resident = self._resident(program)
        tokens, limit = self._prompt(program, resident, text, options)
        pieces = self._pieces(program, resident, tokens, limit, options)
        return (piece.text for piece in pieces if piece.text)

    def score(self, program: Program, cases: Sequence[Case]) -> Score:
        """Loss and exact-match accuracy of a program on cases, in batches, without decoding."""
        with self._turn(program, self._resident(program)):
            return score(self.base, program.template, cases)

    def close(self) -> None:
        """Give the memory back. Closing twice is fine; anything else afterwards is not."""
        with self._lock:
            self._base = self._active = None
            self._sites.clear()
            self._residents.clear()
            mx.clear_cache()

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _prompt(
        self, program: Program, resident: Resident, text: str, options: Options
    ) -> tuple[list[int], int]:
        """Tokens of the input and what follows it, and how many may be generated."""
        base, prefix = self.base, resident.prefix.offset
        tokens = base.tokenizer.encode_input(text, program.template.suffix)
        if not tokens:
            raise OptionError("the input is empty, and so is the template after it")
        reserve = options.max_tokens or 1
        if prefix + len(tokens) + reserve > base.window:
            raise InputTooLong(
                f"{prefix} prefix + {len(tokens)} input + {reserve} output tokens "
                f"exceed the window of {base.window}",
                hint="Shorten the input, or lower max_tokens if you set it.",
            )
        room = base.window - prefix - len(tokens)
        return tokens, min(options.max_tokens or options.DEFAULT_MAX_TOKENS, room)

    def _pieces(
        self,
        program: Program,
        resident: Resident,
        tokens: list[int],
        limit: int,
        options: Options,
    ) -> Iterator[Piece]:
        """Decode up to `limit` tokens, the adapter attached anew wherever others took turns."""
        base, kv = self.base, resident.prefix.fork()
        text = base.tokenizer.stream()
        with self._turn(program, resident):
            logits = prefill(base.model, tokens, kv)
        steps = decode(base.model, logits, kv, options.sampler())
        for count in range(1, limit + 1):
            with self._turn(program, resident):
                token = next(steps)
            if token in base.eos:
                yield Piece(text.finish(), "stop")
                return
            piece = text.push(token)
            if count == limit:
                yield Piece(piece + text.finish(), "length")
            else:
                yield Piece(piece, None)

    def _resident(self, program: Program) -> Resident:
        """A program's memory, made on its first use."""
        with self._lock:
            resident = self._residents.get(program)
            if resident is None:
                self.check(program)
                resident = self._make_resident(program)
                self._residents[program] = resident
            return resident

    def _make_resident(self, program: Program) -> Resident:
        base = self.base
        tokens = base.tokenizer.encode(program.template.prefix, control=True)
        if len(tokens) >= base.window:
            raise InputTooLong(
                f"the program's prefix has {len(tokens)} tokens, and the window {base.window}"
            )
        pairs = lora.pairs(program.adapter, base.dtype) if program.adapter else {}
        mx.eval([array for pair in pairs.values() for array in pair])
        resident = Resident(pairs, KV(base.model.num_layers))
        if tokens:
            with self._turn(program, resident):
                prefill(base.model, tokens, resident.prefix)
        mx.clear_cache()
        return resident

    @contextmanager
    def _turn(self, program: Program, resident: Resident) -> Iterator[None]:
        """Hold the base alone, with the program's adapter attached."""
        with self._lock:
            _ = self.base  # ClosedError if another thread closed it
            if self._active is not program:
                lora.attach(self._sites, resident.pairs)
                self._active = program
            yield
