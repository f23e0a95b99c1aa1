"""The interpreter: one frozen base, any number of programs, any number of callers.

Calls from all threads decode together in one batch, each with its own program. A program's
LoRA and the KV of its prefix are made on its first use; they leave memory when they are the
least recently used beyond a budget, or with the `Program` object, and come back unnoticed.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from types import TracebackType
from weakref import WeakKeyDictionary, finalize

import mlx.core as mx

from .. import hub, settings
from ..cases import Case
from ..errors import AdapterMismatch, ClosedError, InputTooLong, OptionError, PawError
from ..profiles import Profile, find_profile
from ..program import Program
from ..wheels import Progress, quiet
from .bank import Bank
from .batch import Batch
from .call import Call, Result
from .decode import Options
from .drift import check_drift
from .elementwise import on_gpu
from .function import Function
from .overflow import fit
from .owner import Owner
from .prefixes import PrefixCache
from .residents import Prefixes
from .scoring import Score, score
from .weights import Base, load_base

MAX_ROWS = 64
_MEMORY_SHARE = 8  # of what a GPU recommends to use: for adapters, prefixes and rows each
_CUT_RESERVE = 64  # output tokens that a cut input leaves room for
_UNKNOWN_BYTES = 2_000_000_000  # the share where the device does not say


class Interpreter:
    """One base in memory. A context manager: leaving it gives the memory back.

    `max_rows` calls decode at once. `invariant` takes them one by one, every step in one
    shape: the same bits whatever else runs, for the price of the batch.
    """

    def __init__(self, base: Base, *, max_rows: int = MAX_ROWS, invariant: bool = False) -> None:
        if max_rows < 1:
            raise OptionError(f"max_rows must be at least 1, not {max_rows}")
        self._base: Base | None = base
        self.max_rows = 1 if invariant else max_rows
        self.invariant = invariant
        self._owner = Owner(_batch(base, self.max_rows, invariant))
        self._num_prefix: WeakKeyDictionary[Program, int] = WeakKeyDictionary()
        finalize(self, self._owner.close)

    @classmethod
    def load(
        cls,
        reference: str,
        *,
        bits: int | None = None,
        group_size: int = 64,
        max_rows: int = MAX_ROWS,
        invariant: bool = False,
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
        base = load_base(path, bits=bits, group_size=group_size, progress=progress)
        return cls(base, max_rows=max_rows, invariant=invariant)

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

    def submit(self, program: Program, text: str, options: Options | None = None) -> Future[Result]:
        """Hand over one input; the future brings the result, or the error of this input.

        Cancelling the future stops the call, also while it decodes.
        """
        try:
            call = self._call(program, text, options or Options())
            self._owner.submit(call)
        except PawError as error:
            failed: Future[Result] = Future()
            failed.set_exception(error)
            return failed
        return call.future

    def run(self, program: Program, text: str, options: Options | None = None) -> Result:
        """The output of a program for one input, stripped, with counts and seconds."""
        self._owner.check_caller()
        future = self.submit(program, text, options)
        try:
            return future.result()
        finally:
            future.cancel()  # of use when the wait was interrupted

    def stream(self, program: Program, text: str, options: Options | None = None) -> Iterator[str]:
        """The output of a program for one input, in pieces; they join to `run`'s text.

        Whoever stops asking cancels the call.
        """
        self._owner.check_caller()
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        call = self._call(program, text, options or Options(), pieces.put)
        call.future.add_done_callback(lambda _: pieces.put(None))
        self._owner.submit(call)
        return _Stream(call.future, pieces)

    def cut_tokens(self, program: Program, text: str, options: Options) -> int:
        """How many tokens of an input `overflow` leaves out; nothing is run.

        InputTooLong if it does not fit: with the shortest text, if no input ever does.
        """
        return self._call(program, text, options).cut_tokens

    def score(self, program: Program, cases: Sequence[Case]) -> Score:
        """Loss and exact-match accuracy of a program on cases, in batches, without decoding.

        Other calls wait meanwhile.
        """
        if not cases:
            raise OptionError("there are no cases to score")
        self._prefix_length(program)  # checks the program

        def work(batch: Batch) -> Score:
            batch.bank.heat(program)
            return score(batch.base, program.template, cases)

        return self._owner.run(work)

    def close(self) -> None:
        """Give the memory back. Closing twice is fine; anything else afterwards is not."""
        self._base = None
        self._owner.close()

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _call(
        self,
        program: Program,
        text: str,
        options: Options,
        on_piece: Callable[[str], None] | None = None,
    ) -> Call:
        """A call, tokenized. InputTooLong if it does not fit the window as it should."""
        base, num_prefix = self.base, self._prefix_length(program)
        reserve = options.max_tokens or 1
        room = base.window - num_prefix - reserve
        tokens, cut = fit(
            base.tokenizer,
            text,
            program.template.suffix,
            room,
            options.overflow,
            cut_to=room if options.max_tokens else room - min(_CUT_RESERVE, room // 2),
            prefix_tokens=num_prefix,
            reserve=reserve,
        )
        if not tokens:
            raise OptionError("the input is empty, and so is the template after it")
        left = base.window - num_prefix - len(tokens)
        limit = min(options.max_tokens or options.DEFAULT_MAX_TOKENS, left)
        if self.invariant:
            options = replace(options, lookup=False)
        return Call(program, tokens, num_prefix, limit, options, cut, on_piece, keeps=self)

    def _prefix_length(self, program: Program) -> int:
        """Tokens of a program's prefix; checked on first use."""
        if (length := self._num_prefix.get(program)) is None:
            self.check(program)
            length = len(self.base.tokenizer.encode(program.template.prefix, control=True))
            if length >= self.base.window:
                raise InputTooLong(
                    f"the program's prefix has {length} tokens, and the window {self.base.window}"
                )
            self._num_prefix[program] = length
        return length


def _batch(base: Base, max_rows: int, invariant: bool) -> Batch:
    """What computes, with its shares of memory."""
    gpu = on_gpu()
    advised = mx.device_info().get("max_recommended_working_set_size")
    share = int(advised) // _MEMORY_SHARE if gpu and advised else _UNKNOWN_BYTES
    bank = Bank(base.groups, base.dtype, packed=gpu, max_bytes=share, always_hot=invariant)
    cache = PrefixCache(settings.cache_dir() / "prefixes", settings.prefix_bytes())
    prefixes = Prefixes(base, bank, cache, share)
    return Batch(base, bank, prefixes, max_rows=max_rows, kv_bytes=share, ahead=gpu)


class _Stream:
    """Pieces as they come. Closed, or dropped, it cancels its call, even if never asked."""

    def __init__(self, future: Future[Result], pieces: queue.SimpleQueue[str | None]) -> None:
        self._future, self._pieces = future, pieces

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> str:
        if self._future.cancelled():
            raise StopIteration
        piece = self._pieces.get()
        if piece is None:
            self._pieces.put(None)  # for whoever asks again
            if not self._future.cancelled():
                self._future.result()
            raise StopIteration
        return piece

    def close(self) -> None:
        self._future.cancel()

    __del__ = close
