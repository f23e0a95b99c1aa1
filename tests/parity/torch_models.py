"""Tiny models of every family, as transformers makes them."""

from __future__ import annotations

from typing import Any

import pytest

from paw_mlx.profiles import Profile

_LLAMA = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "vocab_size": 64,
    "max_position_embeddings": 128,
}
_GPT2 = {
    "n_embd": 32,
    "n_head": 2,
    "n_layer": 3,
    "n_positions": 128,
    "vocab_size": 64,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "qwen3": {"head_dim": 16, **_LLAMA},
    "gpt2": _GPT2,
}


def profile_of(family: str) -> Profile:
    """Return the profile of a family's tiny model."""
    return Profile.from_config({"model_type": family, **CONFIGS[family]}, "tiny")


def torch_model(family: str, *, head: bool = True) -> Any:
    """Make a family's tiny model, the same weights each time; skip where torch is not here."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(family, **CONFIGS[family])
    kind = transformers.AutoModelForCausalLM if head else transformers.AutoModel
    return kind.from_config(config).eval()
