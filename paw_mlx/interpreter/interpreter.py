"""The interpreter: one frozen base, any number of programs, any number of callers.

Calls from all threads decode together in one batch, each with its own program. A program's
LoRA and the KV of its prefix are made on its first use; they leave memory when they are the
least recently used beyond a budget, or with the `Program` object, and come back unnoticed.
"""

from __future__ import annotations

import queue
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary, finalize

import mlx.core as mx

from .. import hub, settings
from ..annotations import output_of, retype
from ..cases import Case
from ..device import name as device_name
from ..device import on_gpu
from ..errors import AdapterMismatch, ClosedError, InputTooLong, OptionError, PawError
from ..functions import Function
from ..output import Labels, Regex
from ..profiles import Profile, find_profile
from ..program import Program
from ..progress import Progress, quiet
from ..runner import DEFAULT_MAX_TOKENS, Options, Pieces, Result, Stream, check_text, failed
from .adapters.bank import Bank
from .drift import check_drift
from .engine.batch import Batch
from .engine.budget import Share
from .engine.call import Call
from .engine.grammar import Grammars, check_output
from .engine.labels import Trie
from .engine.overflow import fit
from .engine.owner import Owner
from .engine.prefixes import Prefixes, PrefixFolder
from .engine.scoring import Score, score
from .engine.threads import compute
from .models.load import Base, load_base

MAX_ROWS = 64
_CALLS_PER_ROW = 8  # in flight, for each row that is decoded at once
_CUT_RESERVE = 64  # output tokens that a cut input leaves room for


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
        self._owner = Owner(_make_batch(base, self.max_rows, invariant))
        self._prefixes: WeakKeyDictionary[Program, list[int]] = WeakKeyDictionary()
        self._tries: WeakKeyDictionary[Program, Trie] = WeakKeyDictionary()
        self._grammars = Grammars(base)
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
        next time); 16 makes it dense; None takes it as stored: dense where there is no GPU, on one
        in 16 bits, and in 8 where MLX lacks the file's blocks (K-quants), which is kept, too.
        `progress` hears a line before a long step.
        Raises NotFound, HubError, OfflineError, DiskError, FormatError or OptionError.
        """
        path = hub.resolve_base(reference, offline=offline, progress=progress)
        base = compute(
            partial(load_base, path, bits=bits, group_size=group_size, progress=progress)
        )
        return cls(base, max_rows=max_rows, invariant=invariant)

    @property
    def base(self) -> Base:
        if self._base is None:
            raise ClosedError("the interpreter is closed")
        return self._base

    @property
    def max_in_flight(self) -> int:
        """How many calls at once pay: more than are decoded at once, so that some wait ready."""
        return _CALLS_PER_ROW * self.max_rows

    @property
    def identity(self) -> dict[str, Any]:
        """What outputs depend on besides program, input and options: weights, and their form."""
        return {"base": self.base.fingerprint, "form": self.base.form}

    @property
    def closed(self) -> bool:
        return self._base is None

    @property
    def idle_s(self) -> float:
        """Seconds since the last call ended; 0 while there is one."""
        return self._owner.idle_s

    @property
    def device(self) -> str:
        """Where MLX computes: `gpu` or `cpu`."""
        return device_name()

    @property
    def peak_bytes(self) -> int:
        """The most memory MLX has held in this process so far."""
        return mx.get_peak_memory()

    @property
    def profile(self) -> Profile:
        """The base's profile."""
        return self.base.profile

    def function(
        self,
        program: Program,
        *,
        labels: object = None,
        schema: object = None,
        regex: str | re.Pattern[str] | Regex | None = None,
        threshold: float | None = None,
        otherwise: str | None = None,
        strict: bool = False,
    ) -> Function:
        """Bind a program to this base, checked as `check` does; outputs as `paw_mlx.function`'s."""
        program = retype(program, output_of(labels, schema, regex), threshold, otherwise)
        check_output(program.output)
        self.check(program, strict=strict)
        return Function(self, program)

    def check(self, program: Program, *, strict: bool = False) -> None:
        """Raise AdapterMismatch unless the program fits this base.

        One that fits, but was compiled for other weights, gets a DriftWarning, once in a
        process; AdapterMismatch too if `strict`. OptionError or InputTooLong for labels that
        this base's tokenizer does not tell apart, or not in its window.
        """
        made_for = find_profile(program.interpreter)
        if made_for is not None and not made_for.fits(self.profile):
            raise AdapterMismatch(
                f"the program was made for {made_for.name}, and this base is {self.profile.name}",
                hint=f"Run it on {made_for.repo}.",
            )
        if program.adapter is not None:
            self.profile.check(program.adapter)
        self._trie(program)
        check_drift(program, self.base, strict=strict)

    def submit(self, program: Program, text: str, options: Options | None = None) -> Future[Result]:
        """Hand over one input; the future brings the result, or the error of this input.

        Cancelling the future stops the call, also while it decodes.
        """
        try:
            call = self._call(program, text, options or Options())
            self._owner.submit(call)
        except PawError as error:
            return failed(error)
        return call.future

    def run(self, program: Program, text: str, options: Options | None = None) -> Result:
        """Return the output of a program for one input, stripped, with counts and seconds."""
        self._owner.check_caller()
        future = self.submit(program, text, options)
        try:
            return future.result()
        finally:
            future.cancel()  # of use when the wait was interrupted

    def stream(self, program: Program, text: str, options: Options | None = None) -> Pieces:
        """Return the output of a program for one input, in pieces; they join to `run`'s text.

        Whoever stops asking cancels the call.
        """
        self._owner.check_caller()
        pieces: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        call = self._call(program, text, options or Options(), pieces.put)
        call.future.add_done_callback(lambda _: pieces.put(None))
        self._owner.submit(call)
        return Stream(call.future, pieces)

    def cut_tokens(self, program: Program, text: str, options: Options) -> int:
        """Return how many tokens of an input `overflow` leaves out; nothing is run.

        InputTooLong if it does not fit: with the shortest text, if no input ever does.
        """
        return self._call(program, text, options).cut_tokens

    def score(self, program: Program, cases: Sequence[Case]) -> Score:
        """Return loss and exact-match accuracy on cases, in batches, without decoding.

        Other calls wait meanwhile.
        """
        if not cases:
            raise OptionError("there are no cases to score")
        self._prefix(program)  # checks the program

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
        """Make a call, tokenized. InputTooLong if it does not fit the window as it should."""
        check_text(text)
        base, prefix, trie = self.base, self._prefix(program), self._trie(program)
        if trie is None and (options.threshold is not None or options.otherwise is not None):
            raise OptionError(
                f"a threshold is for labels, and the program's output is {program.output.kind}",
                hint="Say which: labels=[…], or --labels.",
            )
        reserve = trie.depth if trie else options.max_tokens or 1
        room = base.window - len(prefix) - reserve
        tokens, cut = fit(
            base.tokenizer,
            text,
            program.template.suffix,
            room,
            options.overflow,
            cut_to=room if trie or options.max_tokens else room - min(_CUT_RESERVE, room // 2),
            prefix_tokens=len(prefix),
            reserve=reserve,
        )
        if not tokens:
            raise OptionError("the input is empty, and so is the template after it")
        left = base.window - len(prefix) - len(tokens)
        limit = min(options.max_tokens or DEFAULT_MAX_TOKENS, left)
        if self.invariant:
            options = replace(options, lookup=False)
        grammar = self._grammars.get(program)
        constraint = grammar.start() if grammar else None
        return Call(
            program, prefix, tokens, limit, options, cut, on_piece, constraint, trie, keeps=self
        )

    def _trie(self, program: Program) -> Trie | None:
        """Return the labels of a program in tokens, made on first use; None if it has none."""
        if not isinstance(program.output, Labels):
            return None
        if (trie := self._tries.get(program)) is None:
            trie = self._tries[program] = Trie(program.output, self.base)
        return trie

    def _prefix(self, program: Program) -> list[int]:
        """Return the tokens of a program's prefix; program and length are checked on first use."""
        if (tokens := self._prefixes.get(program)) is None:
            self.check(program)
            tokens = self.base.tokenizer.encode(program.template.prefix, control=True)
            if len(tokens) >= self.base.window:
                raise InputTooLong(
                    f"the program's prefix has {len(tokens)} tokens, and the window "
                    f"{self.base.window}"
                )
            self._prefixes[program] = tokens
        return tokens


def _make_batch(base: Base, max_rows: int, invariant: bool) -> Batch:
    """Make what computes, with its share of memory."""
    share, gpu = Share(), on_gpu()
    bank = Bank(base.groups, base.dtype, packed=gpu, max_bytes=share.bytes, always_hot=invariant)
    folder = PrefixFolder(settings.cache_dir() / "prefixes", settings.prefix_bytes())
    prefixes = Prefixes(base, bank, folder, share.bytes)
    return Batch(base, bank, prefixes, share, max_rows=max_rows, ahead=gpu)
