"""How a token is chosen, and how a prompt is evaluated."""

from __future__ import annotations

import os
from collections.abc import Callable

import mlx.core as mx

from ...runner import Options
from ..models.decoder import Cache, Decoder

PREFILL_TOKENS = 512  # of one row evaluated at once; bounds the memory of attention
Sampler = Callable[[mx.array], mx.array]


def sampler(options: Options) -> Sampler | None:
    """Return what draws a token from logits (1, V) with the seed's own key; None is greedy."""
    if options.temperature == 0:
        return None
    seed = int.from_bytes(os.urandom(8)) if options.seed is None else options.seed
    state = [mx.random.key(seed)]

    def draw(logits: mx.array) -> mx.array:
        state[0], key = mx.random.split(state[0])
        return mx.random.categorical(logits.astype(mx.float32) / options.temperature, key=key)

    return draw


def prefill(model: Decoder, tokens: list[int], kv: Cache) -> mx.array:
    """Continue one row of `kv` by a prompt; return the logits (1, V) after its last token."""
    starts = range(0, len(tokens), PREFILL_TOKENS)
    *chunks, last = (tokens[start : start + PREFILL_TOKENS] for start in starts)
    for chunk in chunks:
        mx.eval(model.hidden(mx.array([chunk]), kv))
    return model.logits(model.hidden(mx.array([last]), kv)[:, -1])
