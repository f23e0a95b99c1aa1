"""Other engines with a program's adapter, behind the methods of `subjects.py`.

They get a program's prompts as the token ids that paw-mlx makes of them, and its EOS ids.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import mlx.core as mx

from paw_mlx import formats
from paw_mlx.benchmarks import asking, rivals
from paw_mlx.benchmarks.memory import footprint
from paw_mlx.errors import FormatError, InputTooLong
from paw_mlx.interpreter.weights import read_source
from paw_mlx.profiles import Profile


class _Prompts:
    """A program's prompts as token ids, as paw-mlx makes them; and back to text."""

    def __init__(self, reference: str, program: str) -> None:
        source = read_source(Path(reference))
        profile = Profile.from_config(source.config)
        self._tokenizer = source.tokenizer
        self._template = formats.load(program).template
        self._prefix = self._tokenizer.encode(self._template.prefix, control=True)
        self.eos_token_ids = {*source.tokenizer.ids(profile.eos), *source.eos_ids}
        self.vocab = source.config["vocab_size"]

    def ids(self, text: str) -> list[int]:
        return self._prefix + self._tokenizer.encode_input(text, self._template.suffix)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(ids)


class MlxLmProgram(rivals.MlxLm):
    """A base on mlx-lm with an adapter as its LoRA layers, given a program's prompts."""

    def __init__(self, reference: str, *, program: str, adapter: str) -> None:
        super().__init__(reference)
        self._program, self._adapter = program, adapter

    def _read(self) -> None:
        from mlx_lm import utils
        from mlx_lm.tuner.utils import load_adapters

        path = Path(str(self._reference))
        try:
            self._model, self._config = utils.load_model(path)
            load_adapters(self._model, self._adapter)
        except Exception as error:  # files may fail anywhere inside the library
            raise FormatError(f"mlx-lm does not load it: {' '.join(str(error).split())}") from error
        self._model.eval()
        mx.eval(self._model.parameters())
        self._tokenizer = _Prompts(str(path), self._program)

    def outputs(self, texts: Sequence[str], max_tokens: int = 512) -> list[str]:
        """One by one, as the others."""
        return self._answers(list(texts), 1, max_tokens)


class LlamaCpp:
    """A GGUF base on llama.cpp with an adapter, given a program's prompts."""

    def __init__(self, reference: str, *, program: str, adapter: str, context: int) -> None:
        self._reference, self._adapter, self._context = reference, adapter, context
        self._prompts = _Prompts(reference, program)
        self._inputs = asking.inputs()

    def load(self) -> dict[str, Any]:
        """Read the base and the adapter. FormatError for what llama.cpp refuses."""
        import llama_cpp

        threads = None if llama_cpp.llama_supports_gpu_offload() else os.cpu_count()
        try:
            self._llm = llama_cpp.Llama(
                self._reference,
                lora_path=self._adapter,
                n_ctx=self._context,
                n_gpu_layers=-1,
                n_threads=threads,
                n_threads_batch=threads,
                verbose=False,
            )
        except (ValueError, RuntimeError) as error:
            raise FormatError(f"llama.cpp does not load it: {error}") from error
        if not self._llm._lora_adapter:  # a null pointer, which llama-cpp-python takes for one
            raise FormatError("llama.cpp does not load it: the adapter is refused")
        return {"form": quantization(self._reference)}

    def prefill_decode(self, num_prompt: int, num_decode: int, seed: int) -> dict[str, float]:
        """Seconds of a random prompt, and of the tokens after the first one behind it."""
        self._llm.reset()
        ids = asking.random_ids(num_prompt, self._prompts.vocab, seed)
        made = self._generate(ids, num_decode, ends=False)
        assert len(made.tokens) == num_decode
        return made.seconds

    def first_token(self, warm: bool) -> dict[str, float]:
        """Seconds to the first token, the prefix evaluated anew or, `warm`, kept."""
        text = next(self._inputs)
        if not warm:
            self._llm.reset()
        start = time.perf_counter()
        return {"seconds": self._generate(self._prompts.ids(text), 1).first - start}

    def calls(self, num: int, at_once: int, max_tokens: int) -> dict[str, float]:
        """Seconds that so many calls take; the Python package runs one at a time."""
        texts = list(islice(self._inputs, num))
        start = time.perf_counter()
        outputs = self._answers(texts, max_tokens, ends=False)
        return {"seconds": time.perf_counter() - start, "num": len(outputs)}

    def outputs(self, texts: Sequence[str], max_tokens: int = 512) -> list[str]:
        """The program's outputs."""
        return self._answers(texts, max_tokens)

    def memory(self) -> dict[str, int | None]:
        """The process's peak, in bytes; what llama.cpp itself holds it does not say."""
        return {"footprint_peak_bytes": footprint()[1]}

    def _answers(self, texts: Sequence[str], max_tokens: int, ends: bool = True) -> list[str]:
        prompts = (self._prompts.ids(text) for text in texts)
        found = [self._generate(ids, max_tokens, ends).tokens for ids in prompts]
        return [self._prompts.decode(ids) for ids in found]

    def _generate(self, ids: list[int], max_tokens: int, ends: bool = True) -> asking.Generated:
        """Tokens behind `ids`; llama.cpp keeps what a prompt has in common with the last one.

        InputTooLong beyond the room that it was given.
        """
        if len(ids) + max_tokens > self._context:
            raise InputTooLong(
                f"a prompt of {len(ids)} tokens and an output of {max_tokens} exceed "
                f"the {self._context} that llama.cpp was given room for"
            )
        stop = self._prompts.eos_token_ids if ends else set()
        start = time.perf_counter()
        return asking.taken(start, self._llm.generate(ids, temp=0.0), stop, max_tokens)


def quantization(path: str) -> str:
    """What a GGUF file's name says of its form: `Q4_K_M`."""
    found = re.search(r"(?i)(?:^|[\W_])(I?Q\d\w*|B?F16|F32)$", Path(path).stem)
    return f"GGUF {found[1]}" if found else "GGUF"
