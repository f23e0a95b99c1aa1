"""One token after another: the loop, and how a token is chosen."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from ..errors import OptionError
from .kv import KV

PREFILL_TOKENS = 512  # prompt tokens evaluated at once; bounds the memory of attention
Sampler = Callable[[mx.array], mx.array]


class Decoder(Protocol):
    """What every model in `models/` offers."""

    num_layers: int

    def hidden(self, tokens: mx.array, kv: KV) -> mx.array: ...

    def logits(self, hidden: mx.array) -> mx.array: ...


@dataclass(frozen=True)
class Options:
    """How to decode. Greedy by default; `max_tokens` None means `DEFAULT_MAX_TOKENS` or
    what the window has left, whichever is less. OptionError for values out of range."""

    max_tokens: int | None = None
    temperature: float = 0.0
    seed: int | None = None

    DEFAULT_MAX_TOKENS = 512

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise OptionError(f"max_tokens must be at least 1, not {self.max_tokens}")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise OptionError(f"temperature must be 0 or more, not {self.temperature}")
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise OptionError(f"seed must lie in 0 … 2^64 - 1, not {self.seed}")

    def sampler(self) -> Sampler:
        """Choose a token from logits (1, V): the best, or one drawn with the seed's own key."""
        if self.temperature == 0:
            return lambda logits: mx.argmax(logits, axis=-1)
        seed = int.from_bytes(os.urandom(8)) if self.seed is None else self.seed
        state = [mx.random.key(seed)]

        def draw(logits: mx.array) -> mx.array:
            state[0], key = mx.random.split(state[0])
            mx.eval(state[0])  # lazy arrays may not cross threads, and a stream may
            return mx.random.categorical(logits.astype(mx.float32) / self.temperature, key=key)

        return draw


def prefill(model: Decoder, tokens: list[int], kv: KV) -> mx.array:
    """Continue `kv` by a prompt; return the logits (1, V) after its last token."""
    for start in range(0, len(tokens), PREFILL_TOKENS):
        hidden = model.hidden(mx.array([tokens[start : start + PREFILL_TOKENS]]), kv)
        mx.eval(hidden, kv.arrays)
    return model.logits(hidden[:, -1])


def decode(model: Decoder, logits: mx.array, kv: KV, sampler: Sampler) -> Iterator[int]:
    """Yield tokens without end, each computed only when it is asked for."""
    while True:
        token = sampler(logits)  # (1,)
        yield int(token[0])
        logits = model.logits(model.hidden(token[None], kv)[:, -1])
