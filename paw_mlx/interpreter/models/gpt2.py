"""GPT-2: LayerNorm, learned positions, one matrix for q, k and v, GELU (tanh).

    x (B, T, H)   q, k, v (B, heads, T, D)

Hugging Face stores its linear weights as (in, out) ("Conv1D"); reading a base turns them. Once
filled it must be fused (`adapters/parallel.py`), though each of its linear layers stands alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from ...errors import FormatError
from ..adapters.parallel import Parallel, join
from .decoder import Cache, Mask, spread
from .elementwise import gelu


@dataclass(frozen=True)
class Args:
    """The sizes of a base, from its config."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocab: int
    positions: int
    eps: float
    tied: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Args:
        """Read a Hugging Face config; FormatError for what this model does not do."""
        if config.get("activation_function", "gelu_new") != "gelu_new":
            raise FormatError(f"activation {config['activation_function']} is not supported")
        if config.get("scale_attn_by_inverse_layer_idx") or not config.get(
            "scale_attn_weights", True
        ):
            raise FormatError("only GPT-2's own attention scaling is supported")
        return cls(
            hidden=config["n_embd"],
            layers=config["n_layer"],
            heads=config["n_head"],
            inner=config.get("n_inner") or 4 * config["n_embd"],
            vocab=config["vocab_size"],
            positions=config["n_positions"],
            eps=float(config["layer_norm_epsilon"]),
            tied=config.get("tie_word_embeddings", True),
        )


class Attention(nn.Module):
    """Attention, as many keys as queries."""

    def __init__(self, args: Args) -> None:
        super().__init__()
        self.heads = args.heads
        self.c_attn = nn.Linear(args.hidden, 3 * args.hidden)
        self.c_proj = nn.Linear(args.hidden, args.hidden)

    def fuse(self, layer: int, copied: bool) -> list[Parallel]:
        """Let both linear layers carry adapters."""
        groups, modules = {"c_attn": ("c_attn",), "c_proj": ("c_proj",)}, {"c_proj": "attn_c_proj"}
        return join(self, layer, groups, modules=modules, copied=copied)

    def __call__(self, x: mx.array, kv: Cache, layer: int, mask: Mask) -> mx.array:
        """Return what attention adds to x, (B, T, H); `kv` takes in the layer's keys and values."""
        B, T, H = x.shape
        y = self.c_attn(x).reshape(B, T, 3, self.heads, -1)  # (B, T, 3, heads, D)
        y = y.transpose(2, 0, 3, 1, 4)  # (3, B, heads, T, D)
        q, (k, v) = y[0], kv.update(layer, y[1], y[2])  # k, v (B, heads, L, D)
        scale = (H // self.heads) ** -0.5
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
        y = y.transpose(0, 2, 1, 3).reshape(B, T, H)  # (B, heads, T, D) -> (B, T, H)
        return self.c_proj(y)


class MLP(nn.Module):
    """GELU between two linear layers."""

    def __init__(self, args: Args) -> None:
        super().__init__()
        self.c_fc = nn.Linear(args.hidden, args.inner)
        self.c_proj = nn.Linear(args.inner, args.hidden)

    def fuse(self, layer: int, copied: bool) -> list[Parallel]:
        """Let both linear layers carry adapters."""
        groups, modules = {"c_fc": ("c_fc",), "c_proj": ("c_proj",)}, {"c_proj": "mlp_c_proj"}
        return join(self, layer, groups, modules=modules, copied=copied)

    def __call__(self, x: mx.array) -> mx.array:
        """Return what the layer's second half adds to x, (B, T, H)."""
        return self.c_proj(gelu(self.c_fc(x)))


class Block(nn.Module):
    """One layer."""

    def __init__(self, args: Args) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(args.hidden, args.eps)
        self.attn = Attention(args)
        self.ln_2 = nn.LayerNorm(args.hidden, args.eps)
        self.mlp = MLP(args)

    def fuse(self, layer: int, *, copied: bool = True) -> list[Parallel]:
        """Let the linear layers carry adapters, in place; here each stands alone."""
        return self.attn.fuse(layer, copied) + self.mlp.fuse(layer, copied)

    def __call__(self, x: mx.array, kv: Cache, layer: int, mask: Mask) -> mx.array:
        """Return the states (B, T, H) after the layer of this number."""
        x = x + self.attn(self.ln_1(x), kv, layer, mask)
        return x + self.mlp(self.ln_2(x))


class Trunk(nn.Module):
    """All between tokens and states."""

    def __init__(self, args: Args) -> None:
        super().__init__()
        self.wte = nn.Embedding(args.vocab, args.hidden)
        self.wpe = nn.Embedding(args.positions, args.hidden)
        self.h = [Block(args) for _ in range(args.layers)]
        self.ln_f = nn.LayerNorm(args.hidden, args.eps)
        self._heads = args.heads

    def __call__(self, tokens: mx.array, kv: Cache) -> mx.array:
        """Return the states (B, T, H) of tokens (B, T), after the final norm."""
        T = tokens.shape[1]
        mask = spread(kv.mask(T), self._heads)
        x = self.wte(tokens) + self.wpe(kv.positions(T))  # (B, T, H)
        for i, layer in enumerate(self.h):
            x = layer(x, kv, i, mask)
        kv.advance(T)
        return self.ln_f(x)


class Model(nn.Module):
    """A trunk and its head."""

    def __init__(self, args: Args) -> None:
        super().__init__()
        self.args = args
        self.transformer = Trunk(args)
        if not args.tied:
            self.lm_head = nn.Linear(args.hidden, args.vocab, bias=False)

    def hidden(self, tokens: mx.array, kv: Cache) -> mx.array:
        """Continue `kv` by tokens (B, T); return the states after the final norm, (B, T, H)."""
        return self.transformer(tokens, kv)

    def logits(self, hidden: mx.array) -> mx.array:
        """Score every token of the vocabulary: (..., H) -> (..., V)."""
        if self.args.tied:
            return self.transformer.wte.as_linear(hidden)
        return self.lm_head(hidden)

    @property
    def num_layers(self) -> int:
        """How many layers have keys and values."""
        return self.args.layers
