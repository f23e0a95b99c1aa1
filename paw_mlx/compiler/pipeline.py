"""The compiler: an English spec becomes a program, in phases.

    pseudo_program   the pseudo-compiler restates the spec, with examples      text
    encode           the trained compiler reads both, streamed from disk       (L, P, H)
    map              the mapper turns what it read into a LoRA                 A and B
    calibrate        where a base reads specs: what labels are said of nothing  priors

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
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import hub, prompts
from ..adapter import Adapter
from ..errors import FormatError, PawError
from ..formats.checkpoint import Checkpoint, compiler_fingerprint
from ..interpreter.interpreter import Interpreter
from ..output import TEXT, Labels, Output
from ..profiles import base_name
from ..program import Program
from ..progress import Progress, quiet
from .base_encoder import BaseEncoder
from .compilation import Compilation, Cost
from .encoder import Encoder
from .installed import find_compiler, loadable_by_mlx_lm
from .priors import calibrate_labels
from .pseudo import PseudoCompiler, check
from .streamed_mapper import StreamedMapper
from .target import Target
from .writer import SpecWriter

PSEUDO_COMPILER = "mlx-community/Qwen3-4B-Instruct-2507-4bit"
_ROWS = 8  # that an interpreter holds to measure priors
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
        encoder: Encoder | BaseEncoder,
        find_writer: Callable[[], PseudoCompiler | SpecWriter],
        *,
        keep_loaded: bool = False,
        progress: Progress = quiet,
    ) -> None:
        """Take a converted checkpoint; AdapterMismatch if it writes for another base."""
        self.checkpoint, self.target = checkpoint, target
        self._encoder, self._find_writer = encoder, find_writer
        self._keep_loaded, self._progress = keep_loaded, progress
        self._mapper = StreamedMapper(checkpoint)
        self._mapper.check(target.profile)
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
        pseudo_compiler: str | None = None,
        instruction: str | None = None,
        bits: int | None = None,
        keep_loaded: bool = False,
        offline: bool = False,
        progress: Progress = quiet,
    ) -> Compiler:
        """Load a compiler: `paw-4b-qwen3-0.6b`, `paw-4b-gpt2`, a hub repo, a folder, or
        `paw-smollm2-135m`, the embedded one.

        Without a reference, the one that writes for `interpreter` (`qwen3-0.6b`); without that,
        too, and without a network, the embedded one, if the published one is not here. As published
        it is converted first, to `bits` 4, 6, 8 (the default), 16 or 32, and kept. The
        pseudo-compiler is any instruct model that mlx-lm loads, fetched when first needed;
        `instruction` replaces the text that tells it what to write. The embedded one needs none.
        Raises NotFound, HubError, OfflineError, FormatError, AdapterMismatch or OptionError.
        """
        checkpoint = find_compiler(reference, interpreter, bits, offline=offline, progress=progress)

        def resolve(name: str) -> Path:
            return hub.resolve_base(name, offline=offline, progress=progress)

        def find() -> PseudoCompiler | SpecWriter:
            if checkpoint.encoder and not (pseudo_compiler or instruction):
                return SpecWriter()
            path = resolve(pseudo_compiler or PSEUDO_COMPILER)
            return PseudoCompiler(loadable_by_mlx_lm(path, progress), instruction)

        base = resolve(interpreter or base_name(checkpoint.interpreter))
        encoder: Encoder | BaseEncoder
        if not checkpoint.encoder:
            encoder = Encoder(checkpoint)
        elif checkpoint.encoder == checkpoint.interpreter:
            encoder = BaseEncoder(checkpoint, base)
        else:
            encoder = BaseEncoder(checkpoint, resolve(base_name(checkpoint.encoder)))
        return cls(
            checkpoint,
            Target.read(base),
            encoder,
            find,
            keep_loaded=keep_loaded,
            progress=progress,
        )

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
            sound = [each for each in group if each.error is None]
            self._encode(sound)
            for each in sound:
                self._map(each)
            self._calibrate(sound)
            yield from group

    def write(self, compilation: Compilation) -> str:
        """Write the pseudo-program, the first phase; or check the one that was given or edited.

        One that was written before stays. CompileError if it is none or too long, or if no answer
        of the model is a good one.
        """
        with compilation.costs["pseudo_program"].measured():
            if compilation.pseudo_program and compilation.origin == "written":
                pseudo_program = compilation.pseudo_program
            elif compilation.pseudo_program:
                pseudo_program = self.check(compilation.pseudo_program)
            else:
                pseudo_program = self.writer.write(
                    compilation.spec, self.target.room, self._progress, compilation.draw
                )
        compilation.pseudo_program = pseudo_program
        return pseudo_program

    def check(self, pseudo_program: str) -> str:
        """Return the pseudo-program in a text; CompileError says why it is none or too long."""
        return check(pseudo_program, self.target.room, pairs=not self.checkpoint.encoder)

    def close(self) -> None:
        """Give the pseudo-compiler's memory back; the next call loads it again."""
        if "writer" in self.__dict__:
            self.writer.close()

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
    def writer(self) -> PseudoCompiler | SpecWriter:
        """Who writes pseudo-programs, found when first needed."""
        return self._find_writer()

    def _encode(self, compilations: Sequence[Compilation]) -> None:
        """Encode all at once, the second phase; they share its seconds."""
        if not compilations:
            return
        sequences = list(dict.fromkeys(tuple(each.tokens) for each in compilations))
        self._progress(f"encoding {sum(map(len, sequences))} tokens")
        cost = Cost()
        with cost.measured():
            hidden = self._encoder.hidden(sequences, self._mapper.sizes.num_layers)
        states = dict(zip(sequences, hidden, strict=True))
        for each in compilations:
            each.hidden = states[tuple(each.tokens)]
            each.costs["encode"] = Cost(cost.seconds / len(compilations), cost.peak_bytes)

    def _map(self, compilation: Compilation) -> None:
        """Make the program of the hidden states, the third phase."""
        assert compilation.hidden is not None
        with compilation.costs["map"].measured():
            adapter = self._mapper.adapter(compilation.hidden)
        compilation.hidden = None  # they are as large as an adapter
        compilation.program = self._make_program(compilation, adapter)

    def _calibrate(self, compilations: Sequence[Compilation]) -> None:
        """Give labels their priors, the last phase, where a base that is here read the specs."""
        wanted = [each for each in compilations if isinstance(each.output, Labels)]
        if not (self.checkpoint.encoder and wanted):
            return
        cost = Cost()
        with cost.measured(), Interpreter.load(str(self.target.path), max_rows=_ROWS) as runner:
            for each in wanted:
                assert each.program is not None
                each.program = calibrate_labels(runner, each.program)
        for each in wanted:
            each.costs["calibrate"] = Cost(cost.seconds / len(wanted), cost.peak_bytes)

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
            record |= self.writer.record(compilation.draw)
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
