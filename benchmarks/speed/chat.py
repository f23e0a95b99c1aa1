"""mlx-lm, behind the methods of `subject.py`: a chat model prompted for what a program does, or a
base with a program's prompts and adapter."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm import batch_generate
from mlx_lm.generate import generate_step, generation_stream, wired_limit
from mlx_lm.models import qwen3
from mlx_lm.models.cache import make_prompt_cache, trim_prompt_cache
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import load_model

from paw_mlx import formats
from paw_mlx.benchmarks.speed import synthetic
from paw_mlx.benchmarks.speed.sizes import Form, Sizes, mlx_lm_peak_bytes
from paw_mlx.benchmarks.speed.subject import Asked, Subject, Timed, take
from paw_mlx.compiler import chat
from paw_mlx.errors import FormatError
from paw_mlx.interpreter.models.load import form_of, read_source
from paw_mlx.profiles import Profile

_PREFILLED = 8  # prompts that are evaluated together
_NOTHING: frozenset[int] = frozenset()


class Prompts(NamedTuple):
    """How an input becomes token ids, and ids text; what ends an output."""

    ids: Callable[[str], list[int]]
    decode: Callable[[Sequence[int]], str]
    ends: frozenset[int] = _NOTHING


def read_prompts(reference: Path, program: str) -> tuple[Prompts, int]:
    """Return a program's prompts on a base, as paw-mlx makes them, and its vocabulary's size."""
    source, template = read_source(reference), formats.load(program).template
    profile, tokenizer = Profile.from_config(source.config), source.tokenizer
    prefix = tokenizer.encode(template.prefix, control=True)
    ends = frozenset({*tokenizer.ids(profile.eos), *source.eos_ids})

    def ids(text: str) -> list[int]:
        return prefix + tokenizer.encode_input(text, template.suffix)

    return Prompts(ids, tokenizer.decode, ends), source.config["vocab_size"]


class MlxLm(Subject):
    """A chat model on mlx-lm, prompted with an instruction instead of compiled to one.

    `reference` is a folder, or `made_up` names a model; `instruction` is what every input is
    put behind, 400 tokens made up where there is none. With a `program`, a path, its prompts take
    the instruction's place, and `adapter` is the folder of its LoRA layers.
    """

    engine = package = "mlx-lm"

    def __init__(
        self,
        reference: str = "",
        *,
        made_up: str | None = None,
        bits: int | None = None,
        instruction: str | None = None,
        program: str | None = None,
        adapter: str | None = None,
    ) -> None:
        super().__init__(synthetic.INPUT_WIDTH if made_up else 0)
        self._path, self._made_up, self._bits = Path(reference), made_up, bits
        self._instruction, self._program, self._adapter = instruction, program, adapter
        self._prefix: tuple[list[int], Any] | None = None  # of all prompts, evaluated
        self._model: Any = None

    def load(self) -> dict[str, Any]:
        """Read the model, or make it (`load_s` None). NotFound or FormatError."""
        start = time.perf_counter()
        if self._made_up:
            self._make(self._made_up)
        else:
            self._read()
        seconds = time.perf_counter() - start
        self.vocab = self.config["vocab_size"]
        weights = list(dict(tree_flatten(self._model.parameters())).values())
        dtypes = [tensor.dtype for tensor in weights if tensor.dtype != mx.uint32]
        self._form = form_of(self._model, max(dtypes, key=dtypes.count))
        self._nbytes = sum(tensor.nbytes for tensor in weights)
        del weights
        self._wired = contextlib.ExitStack()  # weights stay in the GPU's memory, as in mlx-lm
        self._wired.enter_context(wired_limit(self._model))
        self.end_loading()
        return {
            "model": self._made_up or self._path.resolve().name,
            "load_s": None if self._made_up else seconds,
            "form": self._form,
            "weight_bytes": self._nbytes,
            "adapter_bytes": 0,
        }

    def expected(self, num_prompt: int, num_decode: int) -> dict[str, int | None]:
        """Compute what a token reads, and what there is at most; None if not known."""
        try:
            sizes = Sizes.of(self.config, Form.of(self._form))
        except FormatError:  # a family that is not known here
            return {"expected_peak_bytes": None, "token_bytes": None}
        call = len(self._shared()), synthetic.INPUT_TOKENS
        peak = mlx_lm_peak_bytes(sizes, num_prompt, num_decode, *call)
        token = sizes.read_bytes(num_prompt, num_decode)
        return {"expected_peak_bytes": self._nbytes + peak, "token_bytes": self._nbytes + token}

    def decode(self, ids: list[int], num: int) -> Timed:
        self._wait()
        return self._generate(ids, make_prompt_cache(self._model), num, _NOTHING)

    def complete(self, texts: Sequence[str], asked: Asked) -> list[str]:
        prompts = [self.prompts.ids(text) for text in texts]
        stops = self.prompts.ends if asked.ends else _NOTHING
        if asked.at_once > 1:
            return self._batch(prompts, asked, stops)
        found = []
        for ids in prompts:
            cache, known = make_prompt_cache(self._model), 0
            if asked.warm:
                _, cache = self._evaluated_prefix()
                known = cache[0].offset
            found.append(self._generate(ids[known:], cache, asked.max_tokens, stops).tokens)
            if asked.warm:  # what all begin with stays
                trim_prompt_cache(cache, cache[0].offset - known)
        return [self.prompts.decode(ids) for ids in found]

    def make_ready(self, warm: bool) -> None:
        if warm:
            self._evaluated_prefix()
        self._wait()

    def _make(self, name: str) -> None:
        self.config = synthetic.config(name)
        self._model = qwen3.Model(qwen3.ModelArgs.from_dict(self.config))
        synthetic.fill(self._model, self._bits)
        tokenizer = synthetic.tokenizer(self.config["vocab_size"])
        told = self._instruction or synthetic.filler(tokenizer, synthetic.PREFIX_TOKENS)
        # The tokens that a program made up has on such a model; nothing ends an output.
        self.prompts = Prompts(lambda text: tokenizer.encode(f"{told}{text}\n"), tokenizer.decode)

    def _read(self) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                self._model, self.config = load_model(self._path)
                if self._adapter:
                    load_adapters(self._model, self._adapter)
        except Exception as error:  # files may fail anywhere inside the library
            kind, why = type(error).__name__, " ".join(str(error).split())[:300]
            failed = f"{self._path} does not load: {kind}: {why}"
            if self._adapter:
                failed = f"mlx-lm does not load it: {why}"
            raise FormatError(failed) from error
        self._model.eval()
        mx.eval(self._model.parameters())
        if self._program:
            self.prompts, _ = read_prompts(self._path, self._program)
            return
        tokenizer = chat.load_tokenizer(self._path)
        told = self._instruction or " the" * synthetic.PREFIX_TOKENS
        asked = f"{told.strip()}\n\nAnswer with the output alone."

        def ids(text: str) -> list[int]:
            content = f"{asked}\n\nInput: {text.strip()}\nOutput:"
            return chat.encode(tokenizer, [{"role": "user", "content": content}])

        named = self.config.get("eos_token_id")  # which ends an output, too
        ends = named if isinstance(named, list) else [] if named is None else [named]
        self.prompts = Prompts(ids, tokenizer.decode, frozenset({*tokenizer.eos_token_ids, *ends}))

    @staticmethod
    def _wait() -> None:
        """Wait for what was computed ahead: it belongs to the last call."""
        mx.synchronize(generation_stream)
        mx.synchronize()

    def _shared(self) -> list[int]:
        """What all prompts begin with."""
        first, other = self.prompts.ids("a"), self.prompts.ids("b")
        return first[: next(i for i, (a, b) in enumerate(zip(first, other)) if a != b)]  # noqa: B905

    def _evaluated_prefix(self) -> tuple[list[int], Any]:
        if self._prefix is None:
            ids, cache = self._shared(), make_prompt_cache(self._model)
            list(generate_step(mx.array(ids), self._model, max_tokens=0, prompt_cache=cache))
            self._prefix = ids, cache
        return self._prefix

    def _generate(
        self, ids: list[int], cache: Any, max_tokens: int, stops: frozenset[int]
    ) -> Timed:
        """Tokens behind `ids`, greedily, up to one that ends an output."""
        steps = generate_step(mx.array(ids), self._model, max_tokens=max_tokens, prompt_cache=cache)
        return take((token for token, _ in steps), stops, max_tokens)

    def _batch(
        self, prompts: Sequence[list[int]], asked: Asked, stops: frozenset[int]
    ) -> list[str]:
        known, cache = self._evaluated_prefix()
        with contextlib.redirect_stdout(io.StringIO()):
            done = batch_generate(
                self._model,
                SimpleNamespace(eos_token_ids=stops, decode=self.prompts.decode),
                [ids[len(known) :] for ids in prompts],
                [cache] * len(prompts),
                max_tokens=asked.max_tokens,
                completion_batch_size=asked.at_once,
                prefill_batch_size=min(_PREFILLED, asked.at_once),
            )
        return done.texts
