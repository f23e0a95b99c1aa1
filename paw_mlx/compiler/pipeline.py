"""The compiler: an English spec becomes a program, in three phases.

    pseudo_program   the pseudo-compiler restates the spec, with examples      text
    encode           the trained compiler reads both, streamed from disk       (L, P, H)
    map              the mapper turns what it read into a LoRA                 A and B

Models follow one another and are given back in between, so a compile takes the memory of its
largest phase. Several specs go through a phase together and load its model once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from types import TracebackType
from typing import Any

from .. import hub, prompts
from ..adapter import Adapter
from ..errors import FormatError, PawError
from ..formats.checkpoint import Checkpoint, compiler_fingerprint
from ..output import TEXT, Output
from ..profiles import base_name
from ..program import Program
from ..progress import Progress, quiet
from .compilation import Compilation, Cost
from .encoder import Encoder
from .installed import compiler_for, installed_compiler, loadable_by_mlx_lm
from .pseudo import PseudoCompiler, check
from .streamed_mapper import StreamedMapper
from .target import Target

PSEUDO_COMPILER = "mlx-community/Qwen3-4B-Instruct-2507-4bit"
_TOGETHER = 16  # specs in one phase at a time; bounds the states that encoding leaves


class Compiler:
    """A compiler checkpoint, a pseudo-compiler, and the interpreter they write for.

    A context manager. Between calls it holds no weights, but with `keep_loaded` those of the
    pseudo-compiler.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        target: Target,
        find_pseudo_compiler: Callable[[], PseudoCompiler],
        *,
        keep_loaded: bool = False,
        progress: Progress = quiet,
    ) -> None:
        """Take a converted checkpoint; AdapterMismatch if it writes for another base."""
        self.checkpoint, self.target = checkpoint, target
        self._find_pseudo_compiler = find_pseudo_compiler
        self._keep_loaded, self._progress = keep_loaded, progress
        self._mapper = StreamedMapper(checkpoint)
        self._mapper.check(target.profile)
        self._encoder = Encoder(checkpoint)
        width = self._mapper.sizes.hidden_size
        if width != self._encoder.hidden_size:
            raise FormatError(
                f"the mapper takes {width} values, and the encoder gives "
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
        base = interpreter or base_name(checkpoint.interpreter)
        target = Target.read(hub.resolve_base(base, offline=offline, progress=progress))

        def find() -> PseudoCompiler:
            path = hub.resolve_base(pseudo_compiler, offline=offline, progress=progress)
            return PseudoCompiler(loadable_by_mlx_lm(path, progress), instruction)

        return cls(checkpoint, target, find, keep_loaded=keep_loaded, progress=progress)

    @cached_property
    def fingerprint(self) -> str:
        """The checkpoint's fingerprint (64 hex); other bits are another compiler."""
        return compiler_fingerprint(self.checkpoint)

    def compile(
        self, spec: str, *, pseudo_program: str | None = None, output: Output | None = None
    ) -> Program:
        """Compile a spec; `pseudo_program` skips the first phase.

        `output` is the type of the program's outputs (None: the labels that the spec names, or
        any text). The adapter is float32. The id depends on spec, pseudo-program and compiler
        alone. CompileError if the pseudo-program is not one, InputTooLong, or OptionError.
        """
        compilation = next(self.compile_all([Compilation(spec, pseudo_program, output=output)]))
        if compilation.error:
            raise compilation.error
        assert compilation.program is not None
        return compilation.program

    def compile_all(self, compilations: Sequence[Compilation]) -> Iterator[Compilation]:
        """Compile many specs, in order; one that fails carries its error and stops no other."""
        for start in range(0, len(compilations), _TOGETHER):
            group = compilations[start : start + _TOGETHER]
            for each in group:
                try:
                    pseudo_program = self.write(each)
                    each.tokens = self._encoder.tokens(each.spec, pseudo_program)
                except PawError as error:
                    each.error = error
            if not self._keep_loaded:
                self.close()
            self._encode([each for each in group if each.error is None])
            for each in group:
                if each.error is None:
                    self._map(each)
                yield each

    def write(self, compilation: Compilation) -> str:
        """Write the pseudo-program, the first phase; or check the one that was given.

        CompileError if that is none or too long, or if no answer of the model is a good one.
        """
        with compilation.costs["pseudo_program"].measured():
            if compilation.pseudo_program:
                pseudo_program = self.check(compilation.pseudo_program)
            else:
                pseudo_program = self._pseudo_compiler.write(
                    compilation.spec, self.target.room, self._progress
                )
        compilation.pseudo_program = pseudo_program
        return pseudo_program

    def check(self, pseudo_program: str) -> str:
        """Return the pseudo-program in a text; CompileError says why it is none or too long."""
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

    def _encode(self, compilations: Sequence[Compilation]) -> None:
        """Encode all at once, the second phase; they share its seconds."""
        if not compilations:
            return
        sequences = [each.tokens for each in compilations]
        self._progress(f"encoding {sum(map(len, sequences))} tokens")
        cost = Cost()
        with cost.measured():
            hidden = self._encoder.hidden(sequences, self._mapper.sizes.num_layers)
        for each, states in zip(compilations, hidden, strict=True):
            each.hidden = states
            each.costs["encode"] = Cost(cost.seconds / len(compilations), cost.peak_bytes)

    def _map(self, compilation: Compilation) -> None:
        """Make the program of the hidden states, the third phase."""
        assert compilation.hidden is not None
        with compilation.costs["map"].measured():
            adapter = self._mapper.adapter(compilation.hidden)
        compilation.hidden = None  # they are as large as an adapter
        compilation.program = self._make_program(compilation, adapter)

    def _make_program(self, compilation: Compilation, adapter: Adapter) -> Program:
        """Assemble a program, and the record of where it comes from."""
        spec, pseudo = compilation.spec, compilation.pseudo_program or ""
        key = f"{spec}\0{pseudo}\0{self.fingerprint}"
        conversion = self.checkpoint.conversion or {}
        record: dict[str, Any] = {
            "version": version("paw-mlx"),
            "bits": conversion.get("bits"),
            "pseudo_program": compilation.origin,
            "costs": {phase: asdict(cost) for phase, cost in compilation.costs.items()},
        }
        if compilation.origin != "given":
            record["pseudo_compiler_fingerprint"] = self._pseudo_compiler.fingerprint
            record["instruction_sha256"] = self._pseudo_compiler.instruction_sha256
        return Program(
            template=prompts.template(pseudo, self.target.profile.turn),
            adapter=adapter,
            interpreter=self.checkpoint.interpreter,
            spec=spec,
            pseudo_program=pseudo,
            output=compilation.output or TEXT,
            meta={
                "program_id": hashlib.sha256(key.encode()).hexdigest()[:32],
                "compiler_kind": "mapper_lora",
                "compiler_snapshot": conversion.get("source"),
                "compiler_fingerprint": self.fingerprint,
                "interpreter_fingerprint": self.target.fingerprint,
                "prefix_steps": self.checkpoint.prefix_steps,
                "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "paw_mlx": record,
            },
        )
