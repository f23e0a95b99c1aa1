"""Tiny bases with random weights, in exactly the layout that hubs publish.

Weights are scaled so that outputs vary: a plain random model with tied embeddings repeats
one token whatever it reads, and then every comparison of outputs passes.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from paw_mlx.adapter import Adapter, Lora, Matrix
from paw_mlx.interpreter.engine.kv import KV
from paw_mlx.interpreter.models import make_model
from paw_mlx.interpreter.models.load import Base
from paw_mlx.profiles import Profile
from paw_mlx.program import Program, Template

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEXT = ["the server is down, the disk is full", "spring picnic on Friday, all are welcome"]
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
    },
    "qwen3": {
        "model_type": "qwen3",
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "intermediate_size": 96,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": False,
    },
    "gpt2": {
        "model_type": "gpt2",
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 256,
        "layer_norm_epsilon": 1e-5,
    },
}
FAMILIES = sorted(CONFIGS)


def tokenizer() -> Tokenizer:
    """Train a byte-level BPE of some 300 tokens, GPT-2's way."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(TEXT, trainer)
    made.add_special_tokens([AddedToken(token, normalized=False) for token in CONTROL])
    return made


def config(family: str) -> dict[str, Any]:
    """Return the config of a family's tiny base."""
    vocab = tokenizer()
    eos = vocab.token_to_id("<|im_end|>")
    return CONFIGS[family] | {"vocab_size": vocab.get_vocab_size(), "eos_token_id": eos}


def changed(family: str, **changes: Any) -> str:
    """Return a config.json in which some values are others."""
    return json.dumps(config(family) | changes)


def profile(family: str) -> Profile:
    """Return the profile of a family's tiny base."""
    return Profile.from_config(config(family))


def write_base(folder: Path, family: str, seed: int = 0) -> Path:
    """Write config.json, model.safetensors and tokenizer.json, as Hugging Face does."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = config(family)
    model = make_model(settings)
    mx.random.seed(seed)
    tensors = {}
    for name, tensor in tree_flatten(model.parameters()):
        value = 0.6 * mx.random.normal(tensor.shape) / max(1, tensor.shape[-1]) ** 0.25
        if "norm" in name or ".ln_" in name:
            value = value + ("weight" in name)
        conv1d = (
            family == "gpt2" and name.endswith("weight") and (".attn." in name or ".mlp." in name)
        )
        tensors[name] = mx.contiguous(value.T) if conv1d else value
    mx.save_safetensors(str(folder / "model.safetensors"), tensors, {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(settings))
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def scores(base: Base, tokens: Sequence[int]) -> np.ndarray:
    """Return the logits of a loaded base for every one of these tokens, (T, V) in float32."""
    hidden = base.model.hidden(mx.array([list(tokens)]), KV(base.model.num_layers))
    return np.array(base.model.logits(hidden)[0].astype(mx.float32))


def active_bytes() -> int:
    """Return what MLX holds that somebody refers to; cycles are let go first."""
    gc.collect()
    mx.clear_cache()
    return mx.get_active_memory()


def adapter(profile: Profile, seed: int = 0, rank: int = 4, alpha: float = 8.0) -> Adapter:
    """Make a random adapter on every site, strong enough to change outputs."""
    chance = np.random.default_rng(seed)
    sites = {}
    for site in profile.sites():
        d_in, d_out = profile.shapes[site.module]
        A = chance.normal(0, d_in**-0.5, (rank, d_in)).astype(np.float32)
        B = chance.normal(0, 0.3, (d_out, rank)).astype(np.float32)
        sites[site] = Lora(Matrix.from_array(A), Matrix.from_array(B), alpha)
    return Adapter(sites)


def program(family: str, seed: int | None = 0, prefix: str = "Task: triage.\n") -> Program:
    """Make a program for a tiny base; seed None leaves the adapter out."""
    base = profile(family)
    template = Template(f"<|im_start|>{prefix}", "\n<|im_end|>\n")
    made = None if seed is None else adapter(base, seed)
    return Program(template, made, base.name, meta={"seed": seed})
