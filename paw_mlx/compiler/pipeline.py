"""The compiler: an English spec becomes a program, in three phases.

    pseudo_program   the pseudo-compiler restates the spec, with examples      text
    encode           the trained compiler reads both, streamed from disk       (L, P, H)
    map              the mapper turns what it read into a LoRA                 A and B

Models follow one another and are given back in between, so a compile takes the memory of its
largest phase. Several specs go through a phase together and load its model once.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import mlx.core as mx
import numpy as np

from .. import hub, prompts
from ..adapter import Adapter
from ..errors import FormatError, OptionError, PawError
from ..formats.checkpoint import CompilerMeta, compiler_fingerprint
from ..formats.fingerprint import base_fingerprint
from ..interpreter.function import Function
from ..interpreter.sharing import function
from ..interpreter.tokenizer import Tokenizer
from ..interpreter.weights import read_source
from ..profiles import Profile, base_name
from ..program import Program
from ..wheels import Progress, quiet
from .encoder import Encoder
from .installed import compiler_for, installed_compiler, loadable_by_mlx_lm
from .mapper import Mapper
from .pseudo import PseudoCompiler, Room, check

PSEUDO_COMPILER = "mlx-community/Qwen3-4B-Instruct-2507-4bit"
PHASES = ("pseudo_program", "encode", "map")
_TOGETHER = 16  # specs in one phase at a time; bounds the states that encoding leaves
_RESERVE = 256  # tokens of the interpreter's window that a pseudo-program leaves free


@dataclass(frozen=True)
class Target:
    """The interpreter that programs are written for: all of it but its weights."""

    profile: Profile
    tokenizer: Tokenizer
    window: int
    fingerprint: str

    @classmethod
    def read(cls, path: Path) -> Target:
        """Read a base's folder or GGUF file."""
        source = read_source(path)
        profile = Profile.from_config(source.config)
        return cls(
            profile, source.tokenizer, min(profile.window, source.context), base_fingerprint(path)
        )

    @property
    def room(self) -> Room:
        """How long a pseudo-program may be, its template around it."""
        return Room(self._count, self.window - _RESERVE)

    def _count(self, pseudo_program: str) -> int:
        template = prompts.template(pseudo_program, self.profile.turn)
        return len(self.tokenizer.encode(template.render(""), control=True))


@dataclass
class Cost:
    """What a phase took: one program's share of the seconds, and MLX's peak memory."""

    seconds: float = 0.0
    peak_bytes: int = 0

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Add what the block takes, also one that fails."""
        mx.clear_cache()
        mx.reset_peak_memory()
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start
            self.peak_bytes = max(self.peak_bytes, mx.get_peak_memory())


@dataclass
class Job:
    """A spec on its way through the phases; `program` or `error` is set at the end.

    `origin` says whose the pseudo-program is: `given`, `written` by the pseudo-compiler, or
    written and then `edited`.
    """

    spec: str
    pseudo_program: str | None = None
    origin: str = ""
    program: Program | None = None
    error: PawError | None = None
    costs: dict[str, Cost] = field(default_factory=lambda: {phase: Cost() for phase in PHASES})

    def __post_init__(self) -> None:
        self.spec = self.spec.strip()
        if not self.spec:
            raise OptionError("the spec is empty")
        self.origin = self.origin or ("written" if self.pseudo_program is None else "given")


class Compiler:
    """A compiler checkpoint, a pseudo-compiler, and the interpreter they write for.

    A context manager. Between calls it holds no weights, but with `keep_loaded` those of the
    pseudo-compiler.
    """

    def __init__(
        self,
        checkpoint: Path,
        target: Target,
        find_pseudo_compiler: Callable[[], PseudoCompiler],
        *,
        keep_loaded: bool = False,
        progress: Progress = quiet,
    ) -> None:
        """Of a converted checkpoint. AdapterMismatch if it writes for another base."""
        self.meta, self.target = CompilerMeta.read(checkpoint), target
        self._checkpoint, self._find_pseudo_compiler = checkpoint, find_pseudo_compiler
        self._keep_loaded, self._progress = keep_loaded, progress
        self._mapper = Mapper(checkpoint)
        self._mapper.check(target.profile)
        self._encoder = Encoder(checkpoint)
        if self._mapper.hidden_size != self._encoder.hidden_size:
            raise FormatError(
                f"the mapper takes {self._mapper.hidden_size} values, and the encoder gives "
                f"{self._encoder.hidden_size}"
            )

    @classmethod
    def load(
        cls,
        reference: str | None = None,
        *,
        interpreter: str | None = None,
        pseudo_compiler: str = PSEUDO_COMPILER,
        instruction: str | None = None,
        bits: int | None = None,
        keep_loaded: bool = False,
        offline: bool = False,
        progress: Progress = quiet,
    ) -> Compiler:
        """Load a compiler: `paw-4b-qwen3-0.6b`, `paw-4b-gpt2`, a hub repo, or a folder.

        Without a reference, the one that writes for `interpreter` (`qwen3-0.6b`). As published
        it is converted first, to `bits` 4, 6, 8 (the default), 16 or 32, and kept. The
        pseudo-compiler is any instruct model that mlx-lm loads, fetched when first needed;
        `instruction` replaces the text that tells it what to write.
        Raises NotFound, HubError, OfflineError, FormatError, AdapterMismatch or OptionError.
        """
        reference = reference or compiler_for(interpreter)
        checkpoint = installed_compiler(reference, bits, offline=offline, progress=progress)
        base = interpreter or base_name(CompilerMeta.read(checkpoint).interpreter)
        target = Target.read(hub.resolve_base(base, offline=offline, progress=progress))

        def find() -> PseudoCompiler:
            path = hub.resolve_base(pseudo_compiler, offline=offline, progress=progress)
            return PseudoCompiler(loadable_by_mlx_lm(path, progress), instruction)

        return cls(checkpoint, target, find, keep_loaded=keep_loaded, progress=progress)

    @cached_property
    def fingerprint(self) -> str:
        """The checkpoint's fingerprint (64 hex); other bits are another compiler."""
        return compiler_fingerprint(self._checkpoint)

    def compile(self, spec: str, *, pseudo_program: str | None = None) -> Program:
        """Compile a spec; `pseudo_program` skips the first phase.

        The adapter is float32. The id depends on spec, pseudo-program and compiler alone.
        CompileError if the pseudo-program is not one, InputTooLong, or OptionError.
        """
        job = next(self.compile_all([Job(spec, pseudo_program)]))
        if job.error:
            raise job.error
        assert job.program is not None
        return job.program

    def compile_all(self, jobs: Sequence[Job]) -> Iterator[Job]:
        """Compile many specs, in order; one that fails carries its error and stops no other."""
        for start in range(0, len(jobs), _TOGETHER):
            yield from self._compile_group(jobs[start : start + _TOGETHER])

    def pseudo_program(self, spec: str) -> str:
        """The pseudo-compiler's answer, checked; CompileError if there is no good one."""
        return self._pseudo_compiler.write(spec, self.target.room, self._progress)

    def check(self, pseudo_program: str) -> str:
        """The pseudo-program in a text; CompileError says why it is none or too long."""
        return check(pseudo_program, self.target.room)

    def close(self) -> None:
        """Give the pseudo-compiler's memory back; the next call loads it again."""
        if "_pseudo_compiler" in self.__dict__:
            self._pseudo_compiler.close()

    def __enter__(self) -> Compiler:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @cached_property
    def _pseudo_compiler(self) -> PseudoCompiler:
        return self._find_pseudo_compiler()

    def _compile_group(self, jobs: Sequence[Job]) -> Iterator[Job]:
        sequences = [self._write(job) for job in jobs]
        if not self._keep_loaded:
            self.close()
        written = [job for job in jobs if job.error is None]
        hidden = self._encode(written, [tokens for tokens in sequences if tokens])
        for job in jobs:
            if job.error is None:
                with job.costs["map"].measured():
                    adapter = self._mapper.adapter(hidden.pop(0))
                job.program = self._program(job, adapter)
            yield job

    def _write(self, job: Job) -> list[int]:
        """The first phase: the tokens to encode, none if the job failed."""
        try:
            with job.costs["pseudo_program"].measured():
                given = job.pseudo_program
                job.pseudo_program = self.check(given) if given else self.pseudo_program(job.spec)
            return self._encoder.tokens(job.spec, job.pseudo_program)
        except PawError as error:
            job.error = error
            return []

    def _encode(self, jobs: Sequence[Job], sequences: list[list[int]]) -> list[np.ndarray]:
        """The second phase: the hidden states of each job; they share its seconds."""
        if not jobs:
            return []
        self._progress(f"encoding {sum(map(len, sequences))} tokens")
        cost = Cost()
        with cost.measured():
            hidden = self._encoder.hidden(sequences, self._mapper.num_layers)
        for job in jobs:
            job.costs["encode"] = Cost(cost.seconds / len(jobs), cost.peak_bytes)
        return hidden

    def _program(self, job: Job, adapter: Adapter) -> Program:
        pseudo = job.pseudo_program or ""
        key = f"{job.spec}\0{pseudo}\0{self.fingerprint}"
        conversion = self.meta.conversion or {}
        record: dict[str, Any] = {
            "version": version("paw-mlx"),
            "bits": conversion.get("bits"),
            "pseudo_program": job.origin,
            "costs": {phase: asdict(cost) for phase, cost in job.costs.items()},
        }
        if job.origin != "given":
            record["pseudo_compiler_fingerprint"] = self._pseudo_compiler.fingerprint
            record["instruction_sha256"] = self._pseudo_compiler.instruction_sha256
        return Program(
            template=prompts.template(pseudo, self.target.profile.turn),
            adapter=adapter,
            interpreter=self.meta.interpreter,
            spec=job.spec,
            pseudo_program=pseudo,
            meta={
                "program_id": hashlib.sha256(key.encode()).hexdigest()[:32],
                "compiler_kind": "mapper_lora",
                "compiler_snapshot": conversion.get("source"),
                "compiler_fingerprint": self.fingerprint,
                "interpreter_fingerprint": self.target.fingerprint,
                "prefix_steps": self.meta.prefix_steps,
                "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "paw_mlx": record,
            },
        )


def compile(spec: str, *, pseudo_program: str | None = None, **options: Any) -> Program:
    """Compile a spec to a program. `options` are those of `Compiler.load`, its reference
    being `compiler`."""
    with Compiler.load(options.pop("compiler", None), **options) as compiler:
        return compiler.compile(spec, pseudo_program=pseudo_program)


def compile_and_load(spec: str, *, pseudo_program: str | None = None, **options: Any) -> Function:
    """Compile a spec to a function of text, on the interpreter it was compiled for."""
    program = compile(spec, pseudo_program=pseudo_program, **options)
    kept = {key: options[key] for key in ("interpreter", "offline", "progress") if key in options}
    return function(program, **kept)
