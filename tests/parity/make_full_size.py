"""Write compilers of the published sizes with random weights, to measure what compiling costs.

    python tests/parity/make_full_size.py FOLDER TOKENIZER.json

FOLDER/compiler-4b-qwen3-0.6b is the compiler (8.7 GB), FOLDER/qwen3-0.6b its interpreter (1.2 GB);
FOLDER/compiler-4b-gpt2 shares the encoder's files, and has a mapper for FOLDER/gpt2 (0.3 GB each).
TOKENIZER.json is Qwen3's. Nothing that they compile is of any use.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import compiler_oracle
import torch
import transformers
from safetensors.torch import save_file

HIDDEN, INNER, LAYERS, PREFIX_STEPS, BASES, RANK = 2560, 9728, 36, 64, 64, 64
LAYER = {
    "self_attn.q_proj": (4096, HIDDEN),
    "self_attn.k_proj": (1024, HIDDEN),
    "self_attn.v_proj": (1024, HIDDEN),
    "self_attn.o_proj": (HIDDEN, 4096),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
    "self_attn.q_norm": (128,),
    "self_attn.k_norm": (128,),
    "input_layernorm": (HIDDEN,),
    "post_attention_layernorm": (HIDDEN,),
}
QWEN3 = {
    "q_proj": (1024, 2048),
    "k_proj": (1024, 1024),
    "v_proj": (1024, 1024),
    "o_proj": (2048, 1024),
    "gate_proj": (1024, 3072),
    "up_proj": (1024, 3072),
    "down_proj": (3072, 1024),
}
GPT2 = {
    "c_attn": (768, 2304),
    "attn_c_proj": (768, 768),
    "c_fc": (768, 3072),
    "mlp_c_proj": (3072, 768),
}


def random(*shape: int) -> torch.Tensor:
    """Weights of a plausible size; ones for a norm."""
    return torch.ones(shape) if len(shape) == 1 else torch.randn(shape) * 0.02


def write_encoder(folder: Path, tokenizer_json: Path) -> None:
    """A shard each for the embedding and every layer, so that memory stays small."""
    tokenizer = compiler_oracle._save_tokenizer(
        folder, tokenizer_json, compiler_oracle.INSTRUCT, PREFIX_STEPS
    )
    config = transformers.Qwen3Config(
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=len(tokenizer),
        max_position_embeddings=262144,
        rope_theta=5_000_000.0,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
    )
    config.save_pretrained(folder)
    shards = [
        {"model.embed_tokens.weight": (len(tokenizer), HIDDEN), "model.norm.weight": (HIDDEN,)}
    ]
    for i in range(LAYERS):
        shards.append({f"model.layers.{i}.{name}.weight": s for name, s in LAYER.items()})
    homes = {}
    for number, shapes in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {key: random(*shape).to(torch.bfloat16) for key, shape in shapes.items()}
        save_file(tensors, folder / name, {"format": "pt"})
        homes |= dict.fromkeys(tensors, name)
    index = {"metadata": {}, "weight_map": homes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_mapper(folder: Path, base: str, layers: int, modules: dict[str, tuple[int, int]]) -> None:
    outputs = layers * len(modules) * BASES * 2
    state = {
        "trunk.0.weight": random(HIDDEN, HIDDEN),
        "trunk.0.bias": torch.zeros(HIDDEN),
        "coeff_head.weight": random(outputs, HIDDEN),
        "coeff_head.bias": torch.zeros(outputs),
    }
    for module, (d_in, d_out) in modules.items():
        state[f"A_bases_{module}"] = random(BASES, RANK, d_in)
        state[f"B_bases_{module}"] = random(BASES, d_out, RANK)
    torch.save(state, folder / "lora_mapper.pt")
    meta = {
        "interpreter_model": base,
        "lora_rank": RANK,
        "lora_alpha": 16,
        "lora_num_bases": BASES,
        "prefix_steps": PREFIX_STEPS,
        "compiler_prompt_style": "minimal",
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=2))


def write_qwen3(folder: Path, tokenizer_json: Path) -> None:
    config = transformers.Qwen3Config(
        vocab_size=151936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        rope_theta=1_000_000.0,
        tie_word_embeddings=True,
        eos_token_id=151645,
    )
    write_interpreter(folder, config, tokenizer_json)


def write_gpt2(folder: Path) -> None:
    """Its window is the published GGUF's; its tokenizer has 300 tokens of its vocabulary."""
    tokenizer_json = compiler_oracle.make_tokenizer(folder / "tokenizer.json", "gpt2")
    config = transformers.GPT2Config(n_positions=2048, bos_token_id=300, eos_token_id=300)
    write_interpreter(folder, config, tokenizer_json)


def write_interpreter(folder: Path, config: Any, tokenizer_json: Path) -> None:
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    if tokenizer_json.parent != folder:
        shutil.copyfile(tokenizer_json, folder / "tokenizer.json")


if __name__ == "__main__":
    out, tokenizer_json = map(Path, sys.argv[1:])
    torch.manual_seed(0)
    first, second = out / "compiler-4b-qwen3-0.6b", out / "compiler-4b-gpt2"
    write_encoder(first / "compiler", tokenizer_json)
    shutil.copytree(first / "compiler", second / "compiler", copy_function=os.link)
    write_mapper(first, "Qwen/Qwen3-0.6B", 28, QWEN3)
    write_mapper(second, "gpt2", 12, GPT2)
    write_qwen3(out / "qwen3-0.6b", tokenizer_json)
    write_gpt2(out / "gpt2")
