"""Models of exact shapes with random weights: speed and memory without a download.

How fast a model is does not depend on what it says. Weights are made packed, one tensor after
the other, so that 32B in 4 bits takes no more than its 18 GB; every tensor's numbers follow
from its name alone, so that two engines get the same model. They are large enough for outputs
to vary: a plain random model with tied embeddings repeats one token.

Text becomes one token a byte. A program's adapter is random Q4_0 of rank 64 on every module.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from paw_mlx.adapter import BLOCKS, Adapter, Lora, Matrix, row_bytes
from paw_mlx.benchmarks.speed.sizes import GROUP_SIZE
from paw_mlx.device import on_gpu
from paw_mlx.errors import OptionError, listed
from paw_mlx.interpreter.adapters.parallel import fuse
from paw_mlx.interpreter.base.packing import PACKED_BITS
from paw_mlx.interpreter.base.tokenizer import Tokenizer
from paw_mlx.interpreter.models import make_model
from paw_mlx.interpreter.models.load import Base, form_of
from paw_mlx.profiles import Profile
from paw_mlx.program import Program, Template

RANK = 64
PREFIX_TOKENS, INPUT_TOKENS = 400, 40
INPUT_WIDTH = INPUT_TOKENS - 1  # characters of an input: a synthetic model's are tokens
_NUM_BYTES = 256
_CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_SPREAD = 0.6  # of weights: this over the fourth root of d_in


def _qwen3(hidden: int, layers: int, heads: int, inner: int, **more: Any) -> dict[str, Any]:
    return {
        "model_type": "qwen3",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": inner,
        "vocab_size": 151936,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e6,
        "tie_word_embeddings": True,
        **more,
    }


MODELS = {
    "qwen3-0.6b": _qwen3(1024, 28, 16, 3072),
    "qwen3-1.7b": _qwen3(2048, 28, 16, 6144),
    "qwen3-4b": _qwen3(2560, 36, 32, 9728),
    "qwen3-8b": _qwen3(4096, 36, 32, 12288, tie_word_embeddings=False),
    "qwen3-32b": _qwen3(5120, 64, 64, 25600, tie_word_embeddings=False),
    "tiny": _qwen3(128, 2, 4, 384, num_key_value_heads=2, head_dim=64, vocab_size=1024),
}


def config(name: str) -> dict[str, Any]:
    """Return the config of a known model; OptionError for others."""
    if name not in MODELS:
        raise OptionError(
            f"no synthetic model {name!r}", hint=f"There are {listed(sorted(MODELS), 10)}."
        )
    return MODELS[name]


def base(name: str, bits: int | None) -> Base:
    """Make a random base: packed in `bits`, or dense for 16 and None. It ends no output itself."""
    shape = config(name)
    profile, model = Profile.from_config(shape), make_model(shape)
    dtype = fill(model, bits)
    nbytes = sum(tensor.nbytes for tensor in dict(tree_flatten(model.parameters())).values())
    form = form_of(model, dtype)
    return Base(
        path=Path(f"synthetic-{name}"),
        model=model,
        groups=fuse(model, profile),
        tokenizer=tokenizer(shape["vocab_size"]),
        profile=profile,
        window=profile.window,
        eos=frozenset(),
        end=_NUM_BYTES,
        dtype=dtype,
        form=form,
        nbytes=nbytes,
    )


def fill(model: nn.Module, bits: int | None, dtype: mx.Dtype | None = None) -> mx.Dtype:
    """Give a model random weights, packed in `bits` (4, 6, 8) or dense; return the rest's dtype:
    float32 without a GPU, as paw-mlx computes there, else bfloat16.

    What the model was made with is never computed.
    """
    dtype = dtype or (mx.bfloat16 if on_gpu() else mx.float32)
    if bits in PACKED_BITS:
        nn.quantize(model, GROUP_SIZE, bits)
    layers = [(path, layer) for path, layer in model.named_modules() if "weight" in layer]
    # The largest first: what making it takes besides then stands on nothing.
    for path, layer in sorted(layers, key=lambda named: -named[1].weight.size):
        for part, tensor in _tensors(path, layer, dtype).items():
            layer[part] = tensor
        mx.eval(layer.parameters())
    mx.clear_cache()
    return dtype


def _tensors(path: str, layer: nn.Module, dtype: mx.Dtype) -> dict[str, mx.array]:
    key, shape = mx.random.key(zlib.crc32(path.encode())), layer.weight.shape
    if len(shape) == 1:
        return {"weight": mx.ones(shape, dtype)}
    if "scales" not in layer:
        spread = _SPREAD * 3**0.5 / shape[1] ** 0.25
        return {"weight": mx.random.uniform(-spread, spread, shape, dtype, key)}
    num_codes, groups = 2**layer.bits, layer.scales.shape
    scale = _SPREAD * 12**0.5 / num_codes / (groups[1] * layer.group_size) ** 0.25
    return {
        "weight": mx.random.split(key, shape[0] * shape[1] // 2).reshape(shape),
        "scales": mx.full(groups, scale, dtype),
        "biases": mx.full(groups, -scale * (num_codes - 1) / 2, dtype),
    }


def tokenizer(vocab: int) -> Tokenizer:
    """Make a tokenizer of bytes, control tokens, and names for the rest of the vocabulary."""
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    moved = (chr(_NUM_BYTES + number) for number in range(_NUM_BYTES - len(plain)))
    tokens = [chr(byte) if byte in plain else next(moved) for byte in range(_NUM_BYTES)]  # GPT-2's
    types = [1] * _NUM_BYTES + [3] * len(_CONTROL)
    tokens += _CONTROL
    tokens += [f"<{i}>" for i in range(len(tokens), vocab)]
    return Tokenizer.from_gguf(
        {
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.pre": "gpt-2",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": types + [1] * (vocab - len(types)),
            "tokenizer.ggml.merges": [],
        }
    )


def program(profile: Profile, tokenizer: Tokenizer) -> Program:
    """Make a program up: a prefix of 400 tokens, a random Q4_0 adapter on every module."""
    template = Template(filler(tokenizer, PREFIX_TOKENS), "\n")
    return Program(template, adapter(profile), profile.repo)


def filler(tokenizer: Tokenizer, tokens: int) -> str:
    """Make a text of about so many tokens."""
    words = " the"
    return words * (tokens // len(tokenizer.encode(words)))


def adapter(profile: Profile, rank: int = RANK) -> Adapter:
    """Make random A and B in Q4_0 on every site, alpha like the rank."""
    chance = np.random.default_rng(0)

    def matrix(rows: int, columns: int, spread: float) -> Matrix:
        size, (_, block) = row_bytes("q4_0", columns), BLOCKS["q4_0"]
        blocks = chance.integers(0, 256, (rows, size // block, block), np.uint8)
        blocks[..., :2] = np.array([spread * 12**0.5 / 16], np.float16).view(np.uint8)
        return Matrix("q4_0", (rows, columns), blocks.reshape(rows, size))

    shapes = {site: profile.shapes[site.module] for site in profile.sites()}
    return Adapter(
        {
            site: Lora(matrix(rank, i, i**-0.5), matrix(o, rank, 0.05), float(rank))
            for site, (i, o) in shapes.items()
        }
    )
