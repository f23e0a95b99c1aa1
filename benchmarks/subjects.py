"""What is measured, each behind the same methods: paw-mlx here, mlx-lm prompted in `rivals.py`.

    load()                                      once, first
    prefill_decode(num_prompt, num_decode, seed)
    first_token(warm)    calls(num, at_once, max_tokens)    outputs(texts)    memory()

`prefill_decode` is what mlx_lm.benchmark does: random ids, no end of output, greedy, the
prompt's seconds up to the first token, and tokens decoded behind the prompt (llama-bench's tg
begins with an empty context). One difference: n tokens take n - 1 steps after the first, and
mlx_lm.benchmark divides n by their time; so its figure is n / (n - 1) of ours.

Both engines get the same ids and the same favours: what every prompt begins with is evaluated
once and kept, greedy decoding, batches. `calls` are equal work: outputs of exactly `max_tokens`
tokens, whatever ends one otherwise, without drafts. Seconds are wall time, as a caller sees
them, tokenizing included; loading reads files that the system may have cached.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import mlx.core as mx

from paw_mlx import formats
from paw_mlx.benchmarks import asking, machine, synthetic
from paw_mlx.benchmarks.sizes import SLACK_BYTES, Sizes, peak_bytes
from paw_mlx.interpreter import Interpreter, Options
from paw_mlx.interpreter.batch import Batch
from paw_mlx.interpreter.call import Call
from paw_mlx.interpreter.weights import Base, load_base, read_source
from paw_mlx.program import Program, Template


class Paw(asking.Memory):
    """A base on paw-mlx, with a program or, `bare`, with its template alone.

    `reference` is a folder or GGUF file, or `synthetic` names a model. Without `program`, a
    path, one is made up (`synthetic.program`), and its outputs have `max_tokens`, no end.
    """

    def __init__(
        self,
        reference: str | None = None,
        *,
        synthetic: str | None = None,
        bits: int | None = None,
        program: str | None = None,
        bare: bool = False,
    ) -> None:
        self._reference, self._synthetic, self._bits = reference, synthetic, bits
        self._path, self._bare = program, bare
        self._inputs = asking.inputs(asking.WIDTH if synthetic else 0)

    def prepare(self) -> None:
        """Load the base, that its quantized form is kept: not what is to be measured."""
        assert self._reference is not None
        load_base(Path(self._reference), bits=self._bits)

    def load(self) -> dict[str, Any]:
        """Read the base, or make it (`load_s` None); AdapterMismatch if the program is not its."""
        start = time.perf_counter()
        self.base, seconds = self._load_base(), time.perf_counter() - start
        program = self._load_program()
        self._program = replace(program, adapter=None) if self._bare else program
        # What is timed is decoded to its number of tokens, whatever ends an output otherwise.
        self._endless = replace(self.base, eos=frozenset())
        self._raw: Program | None = None
        self._interpreter = self._opened(self._endless)
        self._interpreter.check(self._program)
        self._vocab = self.sizes.vocab
        self.loaded()
        return {
            "model": self._synthetic or self.base.profile.name,
            "load_s": None if self._synthetic else seconds,
            "form": self.base.form,
            "weight_bytes": self.base.nbytes,
            "adapter_bytes": self._adapter_bytes(),
        }

    def expected(self, num_prompt: int, num_decode: int) -> dict[str, int]:
        """What a token reads, and what there is at most, by arithmetic."""
        tokens = self.base.tokenizer.encode(self._program.template.prefix, control=True)
        (rank, packed), sizes = self._rank(), self.sizes
        # A file may pack each tensor its own way, and then only it knows what weights take.
        mixed = self.base.nbytes - sizes.weight_bytes
        peak = peak_bytes(
            sizes,
            num_prompt=num_prompt,
            num_decode=num_decode,
            num_prefix=len(tokens),
            num_input=synthetic.INPUT_TOKENS,
            rank=rank,
            packed=packed,
        )
        token = (
            sizes.token_bytes
            + self._adapter_bytes()
            + asking.read_kv(sizes, num_prompt, num_decode)
        )
        return {"expected_peak_bytes": peak + mixed, "token_bytes": token + mixed}

    def prefill_decode(self, num_prompt: int, num_decode: int, seed: int) -> dict[str, float]:
        """Seconds of a random prompt, and of the tokens after the first one behind it."""
        self._open(self._endless)
        if self._raw is None:
            adapter, interpreter = self._program.adapter, self._program.interpreter
            self._raw = Program(Template("", ""), adapter, interpreter)
        self._ready(self._raw)
        ids = asking.random_ids(num_prompt, self._vocab, seed)
        call = Call(self._raw, ids, 0, num_decode, Options(lookup=False))
        self._interpreter._owner.submit(call)  # by ids, which no public way takes
        result = call.future.result()
        assert result.output_tokens == num_decode
        return {"prefill_s": result.prefill_s, "decode_s": result.decode_s}

    def first_token(self, warm: bool) -> dict[str, float]:
        """Seconds to the first token of a program that is new here, or `warm`, in use."""
        text = next(self._inputs)
        self._use_program()
        if not warm:  # nothing is kept of a program that nobody holds
            self._program = replace(self._program)
        start = time.perf_counter()
        self._interpreter.run(self._program, text, Options(max_tokens=1))
        return {"seconds": time.perf_counter() - start}

    def calls(self, num: int, at_once: int, max_tokens: int) -> dict[str, float]:
        """Seconds that so many calls take, `at_once` in flight; `together` says how many of
        these decode together, which are fewer only where memory has no room for more."""
        self._use_program()
        fn = self._interpreter.function(self._program)
        texts = list(islice(self._inputs, num))
        together = self._make_room(texts, at_once, max_tokens)
        start = time.perf_counter()
        options: dict[str, Any] = {"max_tokens": max_tokens, "lookup": False}
        if at_once == 1:
            outputs = [fn(text, **options) for text in texts]
        else:
            outputs = list(fn.map(texts, batch_size=at_once, **options))
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "num": len(outputs), "together": together}

    def outputs(self, texts: Sequence[str], max_tokens: int | None = None) -> list[str]:
        """The program's outputs."""
        self._raw = None
        self._open(self.base if self._path else self._endless)
        fn = self._interpreter.function(self._program)
        return list(fn.map(texts, max_tokens=max_tokens))

    @cached_property
    def sizes(self) -> Sizes:
        """The shapes of the base, in the form it has here."""
        if self._synthetic:
            config = synthetic.config(self._synthetic)
        else:
            config = read_source(Path(str(self._reference))).config
        return Sizes.of(config, asking.held(self.base.form, self.base.dtype))

    def _use_program(self) -> None:
        """The program alone, as for its user: nothing else shares the memory with it."""
        self._raw = None
        self._open(self._endless)
        self._ready(self._program)

    def _ready(self, program: Program) -> None:
        """The adapter as it runs once a program stays alone, and no step on its way."""

        def work(batch: Batch) -> None:
            batch.bank.heat(program)
            mx.synchronize()

        self._interpreter._owner.run(work)

    def _make_room(self, texts: Sequence[str], at_once: int, max_tokens: int) -> int:
        """Let `at_once` rows decode together, as mlx-lm does, where memory has room for them:
        the engine's own bound is a share of it. How many it admits."""
        encode, template = self.base.tokenizer.encode_input, self._program.template
        prefix = len(self.base.tokenizer.encode(template.prefix, control=True))
        tokens = max(len(encode(text, template.suffix)) for text in texts) + max_tokens
        limit, most = machine.limit_bytes(), min(at_once, self._interpreter.max_rows)

        def work(batch: Batch) -> int:
            slot = max(batch._longest([(prefix, tokens)]), batch._slots.capacity)
            row_bytes = self.sizes.rows_bytes(slot)
            room = most * row_bytes
            if limit is not None:
                room = min(room, limit - mx.get_active_memory() - SLACK_BYTES)
            batch._kv_bytes = max(batch._kv_bytes, room)
            return max(1, min(most, batch._kv_bytes // row_bytes))

        return int(self._interpreter._owner.run(work))

    def _load_base(self) -> Base:
        if self._synthetic:
            return synthetic.base(self._synthetic, self._bits)
        assert self._reference is not None
        return load_base(Path(self._reference), bits=self._bits)

    def _load_program(self) -> Program:
        if self._path:
            return formats.load(self._path)
        return synthetic.program(self.base.profile, self.base.tokenizer)

    def _rank(self) -> tuple[int | None, bool]:
        """The rank that the program runs at, and whether its A stays packed."""
        adapter = self._program.adapter
        if adapter is None:
            return None, False
        return adapter.ranks[-1], all(lora.A.dtype == "q4_0" for lora in adapter.sites.values())

    def _adapter_bytes(self) -> int:
        rank, packed = self._rank()
        return self.sizes.adapter_bytes(rank, packed) if rank else 0

    def _opened(self, base: Base) -> Interpreter:
        self._open_base = base
        return Interpreter(base)

    def _open(self, base: Base) -> None:
        """One interpreter at a time: they share the layers that adapters are put into."""
        if self._open_base is not base:
            self._interpreter.close()
            self._interpreter = self._opened(base)
