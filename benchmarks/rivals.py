"""mlx-lm, prompted: a chat model asked for what a program does, behind the methods of
`subjects.py`."""

from __future__ import annotations

import contextlib
import importlib
import io
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx

from paw_mlx.benchmarks import asking, synthetic
from paw_mlx.benchmarks.sizes import Sizes, mlx_lm_peak_bytes
from paw_mlx.errors import FormatError
from paw_mlx.interpreter.weights import form_of

_MLX_LM = ("mlx_lm.utils", "mlx_lm.generate", "paw_mlx.compiler.chat")


class MlxLm(asking.Memory):
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
        self._inputs = asking.inputs(asking.WIDTH if synthetic else 0)

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
            sizes = Sizes.of(self._config, asking.held(self._form, self._dtype))
        except FormatError:  # a family that is not known here
            return {"expected_peak_bytes": None, "token_bytes": None}
        unread = sizes.weight_bytes - sizes.token_bytes
        token = self._nbytes - unread + asking.read_kv(sizes, num_prompt, num_decode)
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
        ids = asking.random_ids(num_prompt, self._config["vocab_size"], seed)
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

    def _anew(self, ids: list[int], max_tokens: int) -> asking.Generated:
        return self._generate(ids, self._new_cache(), max_tokens)

    def _behind_prefix(
        self, ids: list[int], max_tokens: int, ends: bool = True
    ) -> asking.Generated:
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
    ) -> asking.Generated:
        """Tokens behind `ids`, greedily, up to one that ends an output."""
        from mlx_lm.generate import generate_step

        stop = set(self._tokenizer.eos_token_ids) if ends else set()
        start = time.perf_counter()
        steps = generate_step(mx.array(ids), self._model, max_tokens=max_tokens, prompt_cache=cache)
        return asking.taken(start, (token for token, _ in steps), stop, max_tokens)

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
