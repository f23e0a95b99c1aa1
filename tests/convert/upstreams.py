"""Published compilers, tiny, and what a conversion leaves of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import tiny
from mlx.utils import tree_flatten
from torch_files import torch_save

from paw_mlx.interpreter.models import make_model

GOLDEN = Path(__file__).parents[1] / "golden" / "compiler"
META = {
    "interpreter_model": "tiny-gpt2",
    "lora_rank": 4,
    "lora_alpha": 16.0,
    "lora_num_bases": 2,
    "prefix_steps": 8,
    "compiler_prompt_style": "minimal",
    "trained_steps": 7,
}


def encoder(seed: int = 0, **changes: Any) -> tuple[dict[str, Any], dict[str, mx.array]]:
    """A config, and bf16 tensors that make outputs vary."""
    config = tiny.config("qwen3") | {"intermediate_size": 128, "tie_word_embeddings": True}
    config |= changes
    model: Any = make_model(config)
    mx.random.seed(seed)
    tensors = {}
    for name, tensor in tree_flatten(model.parameters()):
        value = 0.6 * mx.random.normal(tensor.shape) / tensor.shape[-1] ** 0.25
        tensors[name] = (value + 1 if "norm" in name else value).astype(mx.bfloat16)
    return config, tensors


def mapper(hidden: int = 64, layers: int = 3) -> dict[str, np.ndarray]:
    """A mapper for two modules, with META's rank and number of bases."""
    sizes = {"c_attn": (32, 96), "c_fc": (32, 64)}
    rows = layers * len(sizes) * 2 * 2
    shapes: dict[str, tuple[int, ...]] = {
        "trunk.0.weight": (hidden, hidden),
        "trunk.0.bias": (hidden,),
        "coeff_head.weight": (rows, hidden),
        "coeff_head.bias": (rows,),
    }
    for module, (d_in, d_out) in sizes.items():
        shapes |= {f"A_bases_{module}": (2, 4, d_in), f"B_bases_{module}": (2, d_out, 4)}
    chance = np.random.default_rng(0)
    return {name: chance.normal(size=shape).astype("<f4") for name, shape in shapes.items()}


def write_upstream(folder: Path, seed: int = 0, **changes: Any) -> Path:
    config, tensors = encoder(seed, **changes)
    inner = folder / "compiler"
    inner.mkdir(parents=True)
    save(inner, tensors)
    (inner / "config.json").write_text(json.dumps(config))
    tiny.tokenizer().save(str(inner / "tokenizer.json"))
    (folder / "meta.json").write_text(json.dumps(META))
    torch_save(folder / "lora_mapper.pt", mapper(config["hidden_size"]))
    return folder


def save(inner: Path, tensors: dict[str, mx.array]) -> None:
    mx.save_safetensors(str(inner / "model.safetensors"), tensors, {"format": "pt"})


def loaded(folder: Path) -> dict[str, mx.array]:
    """All tensors under a folder, by the index if it has one."""
    tensors: dict[str, mx.array] = {}
    for file in folder.glob("*.safetensors"):
        tensors |= mx.load(str(file))
    return tensors


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def same(a: mx.array, b: mx.array) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
