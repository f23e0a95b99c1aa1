"""A base on paw-mlx, behind the methods of `subject.py`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from paw_mlx import formats, machine
from paw_mlx.benchmarks.speed import synthetic
from paw_mlx.benchmarks.speed.sizes import SLACK_BYTES, Form, Sizes, peak_bytes
from paw_mlx.benchmarks.speed.subject import Asked, Subject, Timed
from paw_mlx.functions import Function
from paw_mlx.interpreter import Interpreter
from paw_mlx.interpreter.engine.batch import Batch
from paw_mlx.interpreter.engine.call import Call
from paw_mlx.interpreter.models.load import Base, load_base, read_source
from paw_mlx.program import Program, Template
from paw_mlx.runner import DEFAULT_MAX_TOKENS, Options


class Paw(Subject):
    """A base on paw-mlx, with a program or, `bare`, with its template alone.

    `reference` is a folder or GGUF file, or `made_up` names a model. Without `program`, a
    path, one is made up (`synthetic.program`), and its outputs have `max_tokens`, no end.
    """

    def __init__(
        self,
        reference: str = "",
        *,
        made_up: str | None = None,
        bits: int | None = None,
        program: str | None = None,
        bare: bool = False,
    ) -> None:
        super().__init__(synthetic.INPUT_WIDTH if made_up else 0)
        self._path, self._made_up, self._bits = Path(reference), made_up, bits
        self._program_path, self._bare = program, bare

    def prepare(self) -> None:
        """Load the base, that its quantized form is kept: not what is to be measured."""
        load_base(self._path, bits=self._bits)

    def load(self) -> dict[str, Any]:
        """Read the base, or make it (`load_s` None); AdapterMismatch if the program is not its."""
        seconds = None
        if self._made_up:
            self.base = synthetic.base(self._made_up, self._bits)
            config = synthetic.config(self._made_up)
        else:
            start = time.perf_counter()
            self.base = load_base(self._path, bits=self._bits)
            seconds = time.perf_counter() - start
            config = read_source(self._path).config
        self.sizes = Sizes.of(config, Form.of(self.base.form))
        self.vocab = self.sizes.vocab
        if self._program_path:
            program = formats.load(self._program_path)
        else:
            program = synthetic.program(self.base.profile, self.base.tokenizer)
        self._program = replace(program, adapter=None) if self._bare else program
        # What is timed is decoded to its number of tokens, whatever ends an output otherwise.
        self._endless = replace(self.base, eos=frozenset())
        self._raw: Program | None = None
        self._open_base, self.interpreter = self._endless, Interpreter(self._endless)
        self.interpreter.check(self._program)
        self.end_loading()
        return {
            "model": self._made_up or self.base.profile.name,
            "load_s": seconds,
            "form": self.base.form,
            "weight_bytes": self.base.nbytes,
            "adapter_bytes": self.sizes.adapter_bytes(self._program.adapter),
        }

    def expected(self, num_prompt: int, num_decode: int) -> dict[str, int]:
        """Compute what a token reads, and what there is at most."""
        prefix = self.base.tokenizer.encode(self._program.template.prefix, control=True)
        call = len(prefix), synthetic.INPUT_TOKENS
        held = self.base.nbytes + self.sizes.adapter_bytes(self._program.adapter)
        return {
            "expected_peak_bytes": held + peak_bytes(self.sizes, num_prompt, num_decode, *call),
            "token_bytes": held + self.sizes.read_bytes(num_prompt, num_decode),
        }

    def decode(self, ids: list[int], num: int) -> Timed:
        self._open(self._endless)
        if self._raw is None:
            adapter, interpreter = self._program.adapter, self._program.interpreter
            self._raw = Program(Template("", ""), adapter, interpreter)
        self._heat(self._raw)
        call = Call(self._raw, [], ids, num, Options(lookup=False))
        self.interpreter._owner.submit(call)  # by ids, which no public way takes
        result = call.future.result()
        return Timed([0] * result.output_tokens, result.prefill_s, result.decode_s)

    def complete(self, texts: Sequence[str], asked: Asked) -> list[str]:
        """Run the program; what ends an output depends on the base that is open."""
        options = Options(max_tokens=asked.max_tokens, lookup=asked.ends)
        fn = Function(self.interpreter, self._program)
        if asked.at_once == 1:
            return [fn(text, options=options) for text in texts]
        return list(fn.map(texts, options, batch_size=asked.at_once))

    def outputs(self, texts: Sequence[str], max_tokens: int = DEFAULT_MAX_TOKENS) -> list[str]:
        """Return the program's outputs, with their own ends."""
        self._raw = None
        self._open(self.base if self._program_path else self._endless)
        return super().outputs(texts, max_tokens)

    def make_ready(self, warm: bool) -> None:
        """Let the program be alone, as for its user; unless `warm`, it is new here."""
        self._raw = None
        self._open(self._endless)
        self._heat(self._program)
        if not warm:  # nothing is kept of a program that nobody holds
            self._program = replace(self._program)

    def make_room(self, texts: Sequence[str], at_once: int, max_tokens: int) -> int:
        """Let `at_once` rows decode together, as mlx-lm does, where memory has room for them:
        the engine's own bound is a share of it. Return how many it admits."""
        options = Options(max_tokens=max_tokens)
        calls = [self.interpreter._call(self._program, text, options) for text in texts]
        limit, most = machine.limit_bytes(), min(at_once, self.interpreter.max_rows)

        def work(batch: Batch) -> int:
            rules = batch.admission  # which nobody but a benchmark overrules
            slot = max(rules.slot_tokens([], calls), batch.slots.capacity)
            row_bytes = self.sizes.row_bytes(slot)
            room = most * row_bytes
            if limit is not None:
                room = min(room, limit - mx.get_active_memory() - SLACK_BYTES)
            allowed = max(rules._max_bytes(), room)
            rules._max_bytes = lambda: allowed
            return max(1, min(most, allowed // row_bytes))

        return int(self.interpreter._owner.run(work))

    def _heat(self, program: Program) -> None:
        """Run a program as it runs once it stays alone, and let no step be on its way."""

        def work(batch: Batch) -> None:
            batch.bank.heat(program)
            mx.synchronize()

        self.interpreter._owner.run(work)

    def _open(self, base: Base) -> None:
        """Hold one interpreter at a time: they share the layers that adapters are put into."""
        if self._open_base is not base:
            self.interpreter.close()
            self._open_base, self.interpreter = base, Interpreter(base)
