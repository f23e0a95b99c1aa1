"""The bases: a file's name is its config's `model_type`, and that is the whole registry.

Each module holds `Args` (its sizes), `Model`, and as data what loading needs: `GGUF` maps
Hugging Face's tensor names to GGUF's, `IGNORED` matches tensors that are no weights.
"""

from __future__ import annotations

from types import ModuleType

from . import gpt2, llama, qwen3

MODELS: dict[str, ModuleType] = {"gpt2": gpt2, "llama": llama, "qwen3": qwen3}
