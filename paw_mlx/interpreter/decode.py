"""How to decode: the options of a call, how a token is chosen, and the prompt's evaluation."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from ..errors import OptionError
from .kv import Cache

PREFILL_TOKENS = 512  # of one row evaluated at once; bounds the memory of attention
OVERFLOWS = ("error", "head", "tail", "middle")
Sampler = Callable[[mx.array], mx.array]


class Decoder(Protocol):
    """What every model in `models/` offers."""

    num_layers: int

    def hidden(self, tokens: mx.array, kv: Cache) -> mx.array: ...

    def logits(self, hidden: mx.array) -> mx.array: ...


@dataclass(frozen=True)
class Options:
    """How to decode. OptionError for values out of range.

    `max_tokens`: output tokens at most; None is `DEFAULT_MAX_TOKENS` or what the window has
    left, whichever is less. `temperature` 0 is greedy; `seed` repeats a sampled output.
    `timeout_s`: CallTimeout if no result has come by then. `overflow`: what is kept of an
    input beyond the window (its head, its tail, or both without its middle), or error.
    `lookup`: whether to draft from the input's own tokens where it pays, which changes no
    greedy output.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    seed: int | None = None
    timeout_s: float | None = None
    overflow: str = "error"
    lookup: bool = True

    DEFAULT_MAX_TOKENS = 512

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise OptionError(f"max_tokens must be at least 1, not {self.max_tokens}")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise OptionError(f"temperature must be 0 or more, not {self.temperature}")
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise OptionError(f"seed must lie in 0 … 2^64 - 1, not {self.seed}")
        if self.timeout_s is not None and not self.timeout_s > 0:
            raise OptionError(f"timeout_s must be above 0, not {self.timeout_s}")
        if self.overflow not in OVERFLOWS:
            raise OptionError(f"overflow is {self.overflow!r}, and can be {', '.join(OVERFLOWS)}")

    @property
    def repeats(self) -> bool:
        """Whether the same input gives the same output again."""
        return self.temperature == 0 or self.seed is not None

    @property
    def drafts(self) -> bool:
        """Whether drafts can be made: a drawn output cannot be foreseen."""
        return self.lookup and self.temperature == 0

    def sampler(self) -> Sampler | None:
        """Draw a token from logits (1, V) with the seed's own key; None is greedy."""
        if self.temperature == 0:
            return None
        seed = int.from_bytes(os.urandom(8)) if self.seed is None else self.seed
        state = [mx.random.key(seed)]

        def draw(logits: mx.array) -> mx.array:
            state[0], key = mx.random.split(state[0])
            return mx.random.categorical(logits.astype(mx.float32) / self.temperature, key=key)

        return draw


def prefill(model: Decoder, tokens: list[int], kv: Cache) -> mx.array:
    """Continue one row of `kv` by a prompt; return the logits (1, V) after its last token."""
    starts = range(0, len(tokens), PREFILL_TOKENS)
    *chunks, last = (tokens[start : start + PREFILL_TOKENS] for start in starts)
    for chunk in chunks:
        mx.eval(model.hidden(mx.array([chunk]), kv))
    return model.logits(model.hidden(mx.array([last]), kv)[:, -1])
