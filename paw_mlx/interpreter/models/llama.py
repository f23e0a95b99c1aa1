"""Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU (SmolLM2).

    x (B, T, H)   q (B, heads, T, D)   k, v (B, kv_heads, T, D)

The module tree is Hugging Face's, so its tensor names need no map. Once filled it must be
fused (`adapters/parallel.py`): q, k and v then come as chunks of G = kv_heads heads each, q's
first, so C = heads / G + 2 chunks.
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
from .elementwise import Rotation, Turns, halves, rotate, swiglu


@dataclass(frozen=True)
class Args:
    """The sizes of a base, from its config."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocab: int
    eps: float
    theta: float
    tied: bool
    qk_norm: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Args:
        """Read a Hugging Face config; FormatError for what this model does not do."""
        rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
        if rope.get("rope_type", rope.get("type", "default")) != "default":
            raise FormatError(f"rope scaling {rope} is not supported")
        if config.get("hidden_act", "silu") != "silu" or config.get("attention_bias"):
            raise FormatError("only SwiGLU (silu) without attention biases is supported")
        heads = config["num_attention_heads"]
        return cls(
            hidden=config["hidden_size"],
            layers=config["num_hidden_layers"],
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or max(config["hidden_size"] // heads, 1),
            inner=config["intermediate_size"],
            vocab=config["vocab_size"],
            eps=float(config["rms_norm_eps"]),
            theta=float(rope.get("rope_theta") or config["rope_theta"]),
            tied=config.get("tie_word_embeddings", False),
        )


class Attention(nn.Module):
    """Grouped-query attention; with `qk_norm` each head of q and k has an RMSNorm."""

    def __init__(self, args: Args) -> None:
        super().__init__()
        self.args = args
        self.q_proj = nn.Linear(args.hidden, args.heads * args.head_dim, bias=False)
        self.k_proj = nn.Linear(args.hidden, args.kv_heads * args.head_dim, bias=False)
        self.v_proj = nn.Linear(args.hidden, args.kv_heads * args.head_dim, bias=False)
        self.o_proj = nn.Linear(args.heads * args.head_dim, args.hidden, bias=False)
        if args.qk_norm:
            self.q_norm = nn.RMSNorm(args.head_dim, args.eps)
            self.k_norm = nn.RMSNorm(args.head_dim, args.eps)
        self._norms: tuple[mx.array, mx.array] | None = None

    def fuse(self, layer: int, copied: bool) -> list[Parallel]:
        """Make q, k and v one product, and the weights of their norms one."""
        groups = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "o_proj": ("o_proj",)}
        made = join(self, layer, groups, copied=copied)
        if self.args.qk_norm:
            norms = [self.q_norm] * (self.qkv_proj.chunks - 2) + [self.k_norm]
            weights = mx.stack([norm.weight for norm in norms])  # (C - 1, D)
            self._norms = halves(weights[:, None, None])  # 2 x (C - 1, 1, 1, 1, D / 2)
            mx.eval(self._norms)
        return made

    def __call__(self, x: mx.array, kv: Cache, layer: int, mask: Mask, turns: Turns) -> mx.array:
        """Return what attention adds to x, (B, T, H); `kv` takes in the layer's keys and values."""
        args, (B, T, _) = self.args, x.shape
        y = self.qkv_proj(x).reshape(B, T, -1, args.kv_heads, args.head_dim)  # (B, T, C, G, D)
        # The norm takes v along and leaves it unused: without a gap there is nothing to copy.
        qk = mx.fast.rms_norm(y, None, args.eps) if self._norms else y
        qk = qk[:, :, :-1].transpose(0, 2, 3, 1, 4)  # (B, C - 1, G, T, D)
        qk = rotate(qk, turns, self._norms)
        q = qk[:, :-1].reshape(B, args.heads, T, args.head_dim)  # (B, heads, T, D)
        k, v = qk[:, -1], y[:, :, -1].transpose(0, 2, 1, 3)  # (B, G, T, D)
        k, v = kv.update(layer, k, v)  # (B, G, L, D)
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=args.head_dim**-0.5, mask=mask)
        y = y.transpose(0, 2, 1, 3).reshape(B, T, -1)  # (B, T, heads * D)
        return self.o_proj(y)


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, args: Args) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(args.hidden, args.inner, bias=False)
        self.up_proj = nn.Linear(args.hidden, args.inner, bias=False)
        self.down_proj = nn.Linear(args.inner, args.hidden, bias=False)

    def fuse(self, layer: int, copied: bool) -> list[Parallel]:
        """Make gate and up one product."""
        groups = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
        return join(self, layer, groups, copied=copied)

    def __call__(self, x: mx.array) -> mx.array:
        """Return what the layer's second half adds to x, (B, T, H)."""
        y = self.gate_up_proj(x)  # (B, T, 2, inner)
        return self.down_proj(swiglu(y[:, :, 0], y[:, :, 1]))


class Block(nn.Module):
    """One layer."""

    def __init__(self, args: Args) -> None:
        super().__init__()
        self.self_attn = Attention(args)
        self.mlp = MLP(args)
        self.input_layernorm = nn.RMSNorm(args.hidden, args.eps)
        self.post_attention_layernorm = nn.RMSNorm(args.hidden, args.eps)

    def fuse(self, layer: int, *, copied: bool = True) -> list[Parallel]:
        """Fuse what reads the same x, in place; `join` says what `copied` means."""
        return self.self_attn.fuse(layer, copied) + self.mlp.fuse(layer, copied)

    def __call__(self, x: mx.array, kv: Cache, layer: int, mask: Mask, turns: Turns) -> mx.array:
        """Return the states (B, T, H) after the layer of this number."""
        x = x + self.self_attn(self.input_layernorm(x), kv, layer, mask, turns)
        return x + self.mlp(self.post_attention_layernorm(x))


class Trunk(nn.Module):
    """All between tokens and states."""

    def __init__(self, args: Args) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(args.vocab, args.hidden)
        self.layers = [Block(args) for _ in range(args.layers)]
        self.norm = nn.RMSNorm(args.hidden, args.eps)
        self._rotation, self._heads = Rotation(args.head_dim, args.theta), args.heads

    def __call__(self, tokens: mx.array, kv: Cache) -> mx.array:
        """Return the states (B, T, H) of tokens (B, T), after the final norm."""
        T = tokens.shape[1]
        mask, turns = spread(kv.mask(T), self._heads), self._rotation.turns(kv.positions(T))
        x = self.embed_tokens(tokens)  # (B, T, H)
        for i, layer in enumerate(self.layers):
            x = layer(x, kv, i, mask, turns)
        kv.advance(T)
        return self.norm(x)


class Model(nn.Module):
    """A trunk and its head."""

    def __init__(self, args: Args) -> None:
        super().__init__()
        self.args = args
        self.model = Trunk(args)
        if not args.tied:
            self.lm_head = nn.Linear(args.hidden, args.vocab, bias=False)

    def hidden(self, tokens: mx.array, kv: Cache) -> mx.array:
        """Continue `kv` by tokens (B, T); return the states after the final norm, (B, T, H)."""
        return self.model(tokens, kv)

    def logits(self, hidden: mx.array) -> mx.array:
        """Score every token of the vocabulary: (..., H) -> (..., V)."""
        if self.args.tied:
            return self.model.embed_tokens.as_linear(hidden)
        return self.lm_head(hidden)

    @property
    def num_layers(self) -> int:
        """How many layers have keys and values."""
        return self.args.layers
