"""llama.cpp with a program's adapter, behind the methods of `subject.py`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paw_mlx.benchmarks.speed.chat import read_prompts
from paw_mlx.benchmarks.speed.subject import Asked, Subject, Timed, take
from paw_mlx.errors import FormatError, InputTooLong
from paw_mlx.machine.memory import footprint


class LlamaCpp(Subject):
    """A GGUF base on llama.cpp with an adapter, given a program's prompts.

    The Python package runs one call at a time.
    """

    engine, package = "llama.cpp", "llama_cpp_python"

    def __init__(self, reference: str, *, program: str, adapter: str, context: int) -> None:
        super().__init__()
        self._reference, self._adapter, self._context = reference, adapter, context
        self._prompts, self.vocab = read_prompts(Path(reference), program)

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

    def decode(self, ids: list[int], num: int) -> Timed:
        self._llm.reset()
        return self._generate(ids, num, frozenset())

    def complete(self, texts: Sequence[str], asked: Asked) -> list[str]:
        stops = self._prompts.ends if asked.ends else frozenset()
        prompts = (self._prompts.ids(text) for text in texts)
        found = [self._generate(ids, asked.max_tokens, stops).tokens for ids in prompts]
        return [self._prompts.decode(ids) for ids in found]

    def make_ready(self, warm: bool) -> None:
        if not warm:
            self._llm.reset()

    def memory(self) -> dict[str, int | None]:
        """Return the process's peak, in bytes; what llama.cpp itself holds it does not say."""
        return {"footprint_peak_bytes": footprint()[1]}

    def _generate(self, ids: list[int], max_tokens: int, stops: frozenset[int]) -> Timed:
        """Tokens behind `ids`; llama.cpp keeps what a prompt has in common with the last one.

        InputTooLong beyond the room that it was given.
        """
        if len(ids) + max_tokens > self._context:
            raise InputTooLong(
                f"a prompt of {len(ids)} tokens and an output of {max_tokens} exceed "
                f"the {self._context} that llama.cpp was given room for"
            )
        return take(self._llm.generate(ids, temp=0.0), stops, max_tokens)


def quantization(path: str) -> str:
    """Read off a GGUF file's name its form: `Q4_K_M`."""
    found = re.search(r"(?i)(?:^|[\W_])(I?Q\d\w*|B?F16|F32)$", Path(path).stem)
    return f"GGUF {found[1]}" if found else "GGUF"
