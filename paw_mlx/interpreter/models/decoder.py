"""What a model in this folder offers, and what it asks of its keys and values.

B  rows    T  new tokens    L  all tokens    H  width of a state    V  vocabulary
"""

from __future__ import annotations

from typing import Any, Protocol

import mlx.core as mx

from ...device import on_gpu

Layer = tuple[mx.array, mx.array]  # keys and values, (B, kv_heads, L, head_dim)
Mask = str | mx.array | None
_FEW = 8  # tokens that Metal's vector attention takes


def spread(mask: Mask, heads: int) -> Mask:
    """Return a mask of several rows, (B, 1, T, L), as (B, heads, T, L) in memory for a GPU.

    Metal's attention over a few tokens takes it as it is then (scaled_dot_product_attention.cpp,
    `mask_copy_unless`); of one that is only seen so, every layer makes a copy.
    """
    if not isinstance(mask, mx.array) or not on_gpu():
        return mask
    if mask.shape[0] == 1 or mask.shape[2] > _FEW:
        return mask
    rows, _, tokens, length = mask.shape
    return mx.contiguous(mx.broadcast_to(mask, (rows, heads, tokens, length)))


class Cache(Protocol):
    """What a model asks of its keys and values."""

    def mask(self, tokens: int) -> Mask:
        """Return what attention may see while `tokens` new ones are added; ask once a forward."""

    def positions(self, tokens: int) -> mx.array:
        """Return the positions of the next tokens, (T,) or (B, T)."""

    def update(self, layer: int, k: mx.array, v: mx.array) -> Layer:
        """Store keys and values of new tokens, (B, kv_heads, T, head_dim); return those of all.

        The offset stays where it is until `advance`.
        """

    def advance(self, tokens: int) -> None:
        """Count tokens that every layer has stored."""


class Decoder(Protocol):
    """What a model offers: states of tokens, and scores of states."""

    args: Any  # its sizes: `hidden`, `heads`, `vocab` and more
    num_layers: int

    def hidden(self, tokens: mx.array, kv: Cache) -> mx.array:
        """Continue `kv` by tokens (B, T); return the states after the final norm, (B, T, H)."""

    def logits(self, hidden: mx.array) -> mx.array:
        """Score every token of the vocabulary: (..., H) -> (..., V)."""
