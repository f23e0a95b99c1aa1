"""What keeps a step small: a batch in parts, and blocks that are computed twice.

A step keeps what its forward pass computed until the backward pass needs it: by far most of
its memory. Where that would be much, a block keeps only what goes in and comes out, and the
rest is computed again on the way back, for half as much work again; where it would still be
much, the batch goes through in parts. Either way the gradient is the same, to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from ..adapter import Site
from ..cases import Case
from ..interpreter.adapters import lora
from ..interpreter.adapters.parallel import Parallel, blocks_of
from ..interpreter.engine.kv import KV
from ..interpreter.engine.scoring import Targets, make_targets
from ..interpreter.models.decoder import Layer
from ..interpreter.models.load import Base
from ..program import Template

KEPT_BYTES = 4_000_000_000  # what a step may keep, beside weights and adapter
_COPIES = 3  # of a linear layer's output, about: bare, with the adapter, rotated or gated
_LOGIT_BYTES = 16  # of a score and what its gradient takes


@dataclass(frozen=True)
class MicroBatch:
    """Some rows of a batch. `num_targets` counts those of the whole batch."""

    batch: Targets
    num_targets: int
    checkpointed: bool


def divide_batch(base: Base, template: Template, cases: Sequence[Case]) -> list[MicroBatch]:
    """Divide a batch into parts that keep about KEPT_BYTES at most, a row at least."""
    whole = make_targets(base, template, cases)
    (num_rows, width), num_targets = whole.tokens.shape, whole.targets.size
    num_prefix = len(base.tokenizer.encode(template.prefix, control=True))

    def kept_bytes(checkpointed: bool) -> tuple[int, int]:
        prefix = estimate_kept_bytes(base, num_prefix, num_prefix, checkpointed)
        rows = estimate_kept_bytes(base, num_rows * width, num_prefix + width, checkpointed)
        return prefix, rows + num_targets * base.model.args.vocab * _LOGIT_BYTES

    if sum(kept_bytes(checkpointed=False)) <= KEPT_BYTES:
        return [MicroBatch(whole, num_targets, checkpointed=False)]
    prefix, rows = kept_bytes(checkpointed=True)
    num_parts = min(num_rows, -(-rows // max(1, KEPT_BYTES - prefix)))
    size = -(-num_rows // num_parts)
    batches = (make_targets(base, template, cases[i : i + size]) for i in range(0, num_rows, size))
    return [MicroBatch(batch, num_targets, checkpointed=True) for batch in batches]


def estimate_kept_bytes(base: Base, num_tokens: int, num_seen: int, checkpointed: bool) -> int:
    """Estimate what a forward pass of tokens keeps, each of which sees up to `num_seen`."""
    args, layers = base.model.args, base.model.num_layers
    width = sum(sum(group.d_outs) for group in base.groups) // layers
    block = _COPIES * width + args.heads * num_seen  # a score for each token that is seen
    numbers = layers * args.hidden + (1 if checkpointed else layers) * block
    return num_tokens * numbers * base.dtype.size


@contextmanager
def checkpointed(base: Base, pairs: Mapping[Site, lora.Pair]) -> Iterator[None]:
    """Run every block with `pairs`, for a while, keeping only what goes in and comes out.

    Gradients reach the pairs, and the keys and values of earlier tokens. Tokens that continue
    others are the last ones: theirs are not kept. Nobody else may run the base meanwhile.
    """
    blocks = blocks_of(base.model, base.profile)
    plain = list(blocks)
    groups: list[list[Parallel]] = [[] for _ in plain]
    for group in base.groups:
        groups[group.sites[0].layer].append(group)
    blocks[:] = [_Checkpointed(*each, pairs) for each in zip(plain, groups, strict=True)]
    try:
        yield
    finally:
        blocks[:] = plain


class _Checkpointed:
    """A block that is computed forward, and again when its gradient is wanted."""

    def __init__(
        self, block: Any, groups: Sequence[Parallel], pairs: Mapping[Site, lora.Pair]
    ) -> None:
        self._block, self._groups = block, groups
        self._sites = [site for group in groups for site in group.sites if site in pairs]
        self._pairs = [pairs[site] for site in self._sites]

    def __call__(self, x: mx.array, kv: KV, layer: int, *more: Any) -> mx.array:
        """Return the states (B, T, H) after the block, as the block itself does."""
        held = kv.layers[layer]

        # MLX differentiates by what is an argument here, and takes all else for constant.
        def run(
            x: mx.array, held: Layer | None, pairs: Sequence[lora.Pair]
        ) -> tuple[mx.array, Layer | None]:
            lora.attach(self._groups, dict(zip(self._sites, pairs, strict=True)))
            own = KV.of([held]) if held else KV(1)
            y = self._block(x, own, 0, *more)
            return y, None if held else own.layers[0]

        y, kept = mx.checkpoint(run)(x, held, self._pairs)
        kv.layers[layer] = held or kept
        return y
