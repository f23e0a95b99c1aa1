"""What is measured, each behind the same methods: paw-mlx, and mlx-lm prompted.

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

import contextlib
import importlib
import io
import re
import time
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from paw_mlx import formats
from paw_mlx.benchmarks import synthetic
from paw_mlx.benchmarks.memory import footprint
from paw_mlx.benchmarks.sizes import Form, Sizes, mlx_lm_peak_bytes, peak_bytes
from paw_mlx.errors import FormatError
from paw_mlx.interpreter import Interpreter, Options
from paw_mlx.interpreter.batch import Batch
from paw_mlx.interpreter.call import Call
from paw_mlx.interpreter.elementwise import on_gpu
from paw_mlx.interpreter.weights import Base, form_of, load_base, read_source
from paw_mlx.program import Program, Template

_SUBJECTS = (
    "server down", "lunch on Friday", "invoice overdue", "new logo", "password reset",
    "disk full", "team picnic", "contract to sign", "weekly digest", "build broken",
)  # fmt: skip
_WIDTH = synthetic.INPUT_TOKENS - 1  # characters of an input: a synthetic model's are tokens
_MLX_LM = ("mlx_lm.utils", "mlx_lm.generate", "paw_mlx.compiler.chat")
_PLACES = ("in Oslo", "in Berlin", "at work", "upstairs", "in the lab")


def inputs(width: int = 0) -> Iterator[str]:
    """Short inputs, all different, of at least `width` characters."""
    for number, place, subject in product(range(1_000_000), _PLACES, _SUBJECTS):
        yield f"{subject} {place} {number}".ljust(width)


def random_ids(num: int, vocab: int, seed: int) -> list[int]:
    """The ids that both engines get."""
    return [int(i) for i in np.random.default_rng(seed).integers(0, vocab, num)]


class Generated(NamedTuple):
    """Tokens, and when the first one was begun, the first one was there, and the last."""

    start: float
    first: float
    end: float
    tokens: list[int]

    @property
    def seconds(self) -> dict[str, float]:
        """As `prefill_decode` returns them."""
        return {"prefill_s": self.first - self.start, "decode_s": self.end - self.first}


def taken(start: float, steps: Iterator[Any], stop: Container[int], max_tokens: int) -> Generated:
    """Take an engine's tokens as it makes them: at most so many, up to one of `stop`."""
    tokens: list[int] = []
    first = start
    for token in steps:
        first = first if tokens else time.perf_counter()
        if token in stop:
            break
        tokens.append(int(token))
        if len(tokens) == max_tokens:
            break
    return Generated(start, first, time.perf_counter(), tokens)


class _Memory:
    """MLX's peaks, while loading and since."""

    _load_peak = 0

    def loaded(self) -> None:
        self._load_peak = mx.get_peak_memory()
        mx.clear_cache()
        mx.reset_peak_memory()

    def memory(self) -> dict[str, int | None]:
        """Bytes: MLX's now, at most (loading or not), freed and kept; and the process's peak."""
        run_peak = mx.get_peak_memory()
        return {
            "active_bytes": mx.get_active_memory(),
            "peak_bytes": max(run_peak, self._load_peak),
            "run_peak_bytes": run_peak,
            "cache_bytes": mx.get_cache_memory(),
            "footprint_peak_bytes": footprint()[1],
        }


class Paw(_Memory):
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
        self._inputs = inputs(_WIDTH if synthetic else 0)

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
        token = sizes.token_bytes + self._adapter_bytes() + _read_kv(sizes, num_prompt, num_decode)
        return {"expected_peak_bytes": peak + mixed, "token_bytes": token + mixed}

    def prefill_decode(self, num_prompt: int, num_decode: int, seed: int) -> dict[str, float]:
        """Seconds of a random prompt, and of the tokens after the first one behind it."""
        self._open(self._endless)
        if self._raw is None:
            adapter, interpreter = self._program.adapter, self._program.interpreter
            self._raw = Program(Template("", ""), adapter, interpreter)
        self._ready(self._raw)
        ids = random_ids(num_prompt, self._vocab, seed)
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
        """Seconds that so many calls take, `at_once` in flight."""
        self._use_program()
        fn = self._interpreter.function(self._program)
        texts = list(islice(self._inputs, num))
        start = time.perf_counter()
        options: dict[str, Any] = {"max_tokens": max_tokens, "lookup": False}
        if at_once == 1:
            outputs = [fn(text, **options) for text in texts]
        else:
            outputs = list(fn.map(texts, batch_size=at_once, **options))
        return {"seconds": time.perf_counter() - start, "num": len(outputs)}

    def outputs(self, texts: Sequence[str], max_tokens: int | None = None) -> list[str]:
        """The program's outputs."""
        self._raw = None
        self._open(self.base if self._path else self._endless)
        fn = self._interpreter.function(self._program)
        return list(fn.map(texts, max_tokens=max_tokens))

    @property
    def sizes(self) -> Sizes:
        """The shapes of the base, in the form it has here."""
        if self._synthetic:
            config = synthetic.config(self._synthetic)
        else:
            config = read_source(Path(str(self._reference))).config
        return Sizes.of(config, _held(self.base.form, self.base.dtype))

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


class MlxLm(_Memory):
    """A chat model on mlx-lm, prompted with an instruction instead of compiled to one.

    `reference` is a folder, or `synthetic` names a model; `instruction` is what every input is
    put behind, 400 tokens made up where there is none.
    """

    def __init__(
        self,
        reference: str | None = None,
        *,
        synthetic: str | None = None,
        bits: int | None = None,
        instruction: str | None = None,
    ) -> None:
        self._reference, self._synthetic, self._bits = reference, synthetic, bits
        self._instruction = instruction
        self._inputs = inputs(_WIDTH if synthetic else 0)

    def load(self) -> dict[str, Any]:
        """Read the model, or make it (`load_s` None). NotFound or FormatError."""
        for name in _MLX_LM:  # takes seconds, and reads no weights
            importlib.import_module(name)
        start = time.perf_counter()
        if self._synthetic:
            self._make(self._synthetic)
        else:
            self._read()
        seconds = time.perf_counter() - start
        from mlx.utils import tree_flatten

        named = dict(tree_flatten(self._model.parameters()))
        dtypes = [t.dtype for t in named.values() if t.dtype != mx.uint32]
        self._dtype = max(dtypes, key=dtypes.count)
        self._nbytes = sum(t.nbytes for t in named.values())
        self._form = form_of(self._model, self._dtype)
        named.clear()
        self._prefix: tuple[list[int], Any] | None = None
        self._wire()
        self.loaded()
        return {
            "model": self._synthetic or Path(str(self._reference)).resolve().name,
            "load_s": None if self._synthetic else seconds,
            "form": self._form,
            "weight_bytes": self._nbytes,
            "adapter_bytes": 0,
        }

    def expected(self, num_prompt: int, num_decode: int) -> dict[str, int | None]:
        """What a token reads, and what there is at most, by arithmetic; None if not known."""
        try:
            sizes = Sizes.of(self._config, _held(self._form, self._dtype))
        except (FormatError, KeyError):  # a family that is not known here
            return {"expected_peak_bytes": None, "token_bytes": self._nbytes}
        unread = sizes.weight_bytes - sizes.token_bytes
        token = self._nbytes - unread + _read_kv(sizes, num_prompt, num_decode)
        mixed = self._nbytes - sizes.weight_bytes
        peak = mlx_lm_peak_bytes(
            sizes,
            num_prompt=num_prompt,
            num_decode=num_decode,
            num_prefix=len(self._shared()),
            num_input=synthetic.INPUT_TOKENS,
        )
        return {"expected_peak_bytes": peak + mixed, "token_bytes": token}

    def prefill_decode(self, num_prompt: int, num_decode: int, seed: int) -> dict[str, float]:
        """Seconds of a random prompt, and of the tokens after the first one behind it."""
        ids = random_ids(num_prompt, self._config["vocab_size"], seed)
        self._synchronize()
        made = self._generate(ids, self._new_cache(), num_decode, ends=False)
        assert len(made.tokens) == num_decode
        return made.seconds

    def first_token(self, warm: bool) -> dict[str, float]:
        """Seconds to the first token, the instruction evaluated anew or, `warm`, kept."""
        text = next(self._inputs)
        if warm:
            self._kept()
        self._synchronize()
        start = time.perf_counter()
        ids = self._tokenizer.ids(text)
        generate = self._behind_prefix if warm else self._anew
        return {"seconds": generate(ids, 1).first - start}

    def calls(self, num: int, at_once: int, max_tokens: int) -> dict[str, float]:
        """Seconds that so many calls take, `at_once` in flight."""
        texts = list(islice(self._inputs, num))
        self._kept()
        self._synchronize()
        start = time.perf_counter()
        outputs = self._answers(texts, at_once, max_tokens, ends=False)
        return {"seconds": time.perf_counter() - start, "num": len(outputs)}

    def outputs(self, texts: Sequence[str], max_tokens: int = 512) -> list[str]:
        """The answers, stripped."""
        return [text.strip() for text in self._answers(list(texts), 8, max_tokens)]

    def _wire(self) -> None:
        """Let the weights stay in the GPU's memory as long as this process lives, as one
        `wired_limit` around all of it."""
        from mlx_lm.generate import wired_limit

        self._wired = contextlib.ExitStack()
        self._wired.enter_context(wired_limit(self._model))

    @staticmethod
    def _synchronize() -> None:
        """Wait for what was computed ahead: it belongs to the last call."""
        from mlx_lm.generate import generation_stream

        mx.synchronize(generation_stream)
        mx.synchronize()

    def _make(self, name: str) -> None:
        from mlx_lm.models import qwen3

        self._config = synthetic.config(name)
        self._model = qwen3.Model(qwen3.ModelArgs.from_dict(self._config))
        synthetic.fill(self._model, self._bits)
        self._tokenizer: Any = _Bytes(self._config["vocab_size"], self._instruction)

    def _read(self) -> None:
        path = Path(str(self._reference))
        self._model, self._config = _load_model(path)
        self._tokenizer = _Chat(path, self._config, self._instruction)

    def _shared(self) -> list[int]:
        """What all prompts begin with."""
        first, other = self._tokenizer.ids("a"), self._tokenizer.ids("b")
        return first[: next(i for i, (a, b) in enumerate(zip(first, other)) if a != b)]  # noqa: B905

    def _kept(self) -> tuple[list[int], Any]:
        """What all prompts begin with, evaluated."""
        if self._prefix is None:
            ids, cache = self._shared(), self._new_cache()
            from mlx_lm.generate import generate_step

            list(generate_step(mx.array(ids), self._model, max_tokens=0, prompt_cache=cache))
            self._prefix = ids, cache
        return self._prefix

    def _anew(self, ids: list[int], max_tokens: int) -> Generated:
        return self._generate(ids, self._new_cache(), max_tokens)

    def _behind_prefix(self, ids: list[int], max_tokens: int, ends: bool = True) -> Generated:
        """Continue the kept beginning, and take the continuation back afterwards."""
        from mlx_lm.models.cache import trim_prompt_cache

        _, cache = self._kept()
        before = cache[0].offset
        try:
            return self._generate(ids[before:], cache, max_tokens, ends)
        finally:
            trim_prompt_cache(cache, cache[0].offset - before)

    def _generate(
        self, ids: list[int], cache: Any, max_tokens: int, ends: bool = True
    ) -> Generated:
        """Tokens behind `ids`, greedily, up to one that ends an output."""
        from mlx_lm.generate import generate_step

        stop = set(self._tokenizer.eos_token_ids) if ends else set()
        start = time.perf_counter()
        steps = generate_step(mx.array(ids), self._model, max_tokens=max_tokens, prompt_cache=cache)
        return taken(start, (token for token, _ in steps), stop, max_tokens)

    def _answers(
        self, texts: list[str], at_once: int, max_tokens: int, ends: bool = True
    ) -> list[str]:
        prompts = [self._tokenizer.ids(text) for text in texts]
        if at_once == 1:
            found = [self._behind_prefix(ids, max_tokens, ends).tokens for ids in prompts]
            return [self._tokenizer.decode(ids) for ids in found]
        from mlx_lm import batch_generate

        known, cache = self._kept()
        stops = self._tokenizer.eos_token_ids if ends else ()
        with contextlib.redirect_stdout(io.StringIO()):
            done = batch_generate(
                self._model,
                SimpleNamespace(eos_token_ids=stops, decode=self._tokenizer.decode),
                [ids[len(known) :] for ids in prompts],
                [cache] * len(prompts),
                max_tokens=max_tokens,
                completion_batch_size=at_once,
                prefill_batch_size=min(8, at_once),
            )
        return done.texts

    def _new_cache(self) -> Any:
        from mlx_lm.models.cache import make_prompt_cache

        return make_prompt_cache(self._model)


class _Bytes:
    """A synthetic model's tokenizer, as mlx-lm asks one; nothing ends an output."""

    eos_token_ids: frozenset[int] = frozenset()

    def __init__(self, vocab: int, instruction: str | None) -> None:
        tokenizer = synthetic.tokenizer(vocab)
        self._instruction = instruction or synthetic.filler(tokenizer, synthetic.PREFIX_TOKENS)
        self._encode, self.decode = tokenizer.encode, tokenizer.decode

    def ids(self, text: str) -> list[int]:
        """The prompt of an input: the tokens that a program made up has on such a model."""
        return self._encode(f"{self._instruction}{text}\n")


class _Chat:
    """A chat model's tokenizer; what its config names ends an output, too."""

    def __init__(self, path: Path, config: dict[str, Any], instruction: str | None) -> None:
        from paw_mlx.compiler import chat

        self._tokenizer = chat.load_tokenizer(path)
        self._encode, self.decode = chat.encode, self._tokenizer.decode
        ends = config.get("eos_token_id")
        more = ends if isinstance(ends, list) else [] if ends is None else [ends]
        self.eos_token_ids = {*self._tokenizer.eos_token_ids, *more}
        self._instruction = instruction or " the" * synthetic.PREFIX_TOKENS

    def ids(self, text: str) -> list[int]:
        """The prompt of an input: asked for what a program does."""
        asked = f"{self._instruction.strip()}\n\nAnswer with the output alone."
        content = f"{asked}\n\nInput: {text.strip()}\nOutput:"
        return self._encode(self._tokenizer, [{"role": "user", "content": content}])


def _load_model(path: Path) -> tuple[Any, dict[str, Any]]:
    from mlx_lm import utils

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return utils.load_model(path)
    except Exception as error:  # a model's files may fail anywhere inside the library
        reason = " ".join(str(error).split())[:300]
        raise FormatError(f"{path} does not load: {type(error).__name__}: {reason}") from error


def _held(form: str, dtype: mx.Dtype) -> Form:
    """A form as `Base.form` words it, for arithmetic: the first packing stands for all."""
    packing = re.search(r"(\d+)-bit g(\d+)", form)
    bits, group_size = (int(packing[1]), int(packing[2])) if packing else (None, 64)
    return Form(bits, dtype.size, group_size, on_gpu())


def _read_kv(sizes: Sizes, num_prompt: int, num_decode: int) -> int:
    """Keys and values that a token decoded behind a prompt reads, at the middle of them."""
    return (num_prompt + num_decode // 2) * sizes.kv_bytes
