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
from paw_mlx.benchmarks import subjects
from paw_mlx.benchmarks.memory import footprint
from paw_mlx.errors import FormatError
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


class MlxLmProgram(subjects.MlxLm):
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
        self._inputs = subjects.inputs()

    def load(self) -> dict[str, Any]:
        """Read the base and the adapter. FormatError for what llama.cpp refuses."""
        import llama_cpp

        threads = None if llama_cpp.llama_supports_gpu_offload() else os.cpu_count()
        start = time.perf_counter()
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
        return {
            "load_s": time.perf_counter() - start,
            "form": quantization(self._reference),
            "weight_bytes": Path(self._reference).stat().st_size,
            "adapter_bytes": Path(self._adapter).stat().st_size,
            "model": Path(self._reference).stem,
        }

    def prefill_decode(self, num_prompt: int, num_decode: int, seed: int) -> dict[str, float]:
        """Seconds of a random prompt, and of the tokens after the first one behind it."""
        self._llm.reset()
        ids = subjects.random_ids(num_prompt, self._prompts.vocab, seed)
        prefill_s, decode_s, out = self._generate(ids, num_decode, ends=False)
        assert len(out) == num_decode
        return {"prefill_s": prefill_s, "decode_s": decode_s}

    def first_token(self, warm: bool) -> dict[str, float]:
        """Seconds to the first token, the prefix evaluated anew or, `warm`, kept."""
        ids = self._prompts.ids(next(self._inputs))
        if not warm:
            self._llm.reset()
        return {"seconds": self._generate(ids, 1)[0]}

    def calls(self, num: int, at_once: int, max_tokens: int) -> dict[str, float]:
        """Seconds that so many calls take; the Python package runs one at a time."""
        texts = list(islice(self._inputs, num))
        start = time.perf_counter()
        outputs = self.outputs(texts, max_tokens)
        return {"seconds": time.perf_counter() - start, "num": len(outputs)}

    def outputs(self, texts: Sequence[str], max_tokens: int = 512) -> list[str]:
        """The program's outputs."""
        prompts = [self._prompts.ids(text) for text in texts]
        return [self._prompts.decode(self._generate(ids, max_tokens)[2]) for ids in prompts]

    def memory(self) -> dict[str, int | None]:
        """The process's peak, in bytes; what llama.cpp itself holds it does not say."""
        return {"footprint_peak_bytes": footprint()[1]}

    def _generate(
        self, ids: list[int], max_tokens: int, ends: bool = True
    ) -> tuple[float, float, list[int]]:
        """Seconds to the first token, seconds after it, and the tokens. llama.cpp keeps what
        a prompt has in common with the last one."""
        stop = self._prompts.eos_token_ids if ends else set()
        out: list[int] = []
        start = first = time.perf_counter()
        steps = self._llm.generate(ids, temp=0.0)
        for token in steps:
            first = first if out else time.perf_counter()
            if token in stop:
                break
            out.append(int(token))
            if len(out) == max_tokens:
                break
        end = time.perf_counter()
        steps.close()
        return first - start, end - first, out


def quantization(path: str) -> str:
    """What a GGUF file's name says of its form: `Q4_K_M`."""
    found = re.search(r"(?i)\b(I?Q\d\w*|B?F16|F32)$", Path(path).stem)
    return f"GGUF {found[1]}" if found else "GGUF"
