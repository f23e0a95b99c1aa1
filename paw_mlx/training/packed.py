"""Cases of several functions in one batch, the prompt of each function once.

A row holds a function's prompt and behind it its cases, side by side: each sees the prompt and
itself, and counts positions from the prompt's end, as if it stood there alone. So the numbers are
those of a row for each case, for a fraction of the work.

    tokens, positions   (F, T)         padded on the right
    mask                (F, 1, T, T)   bool
    rows, places        (N,)           where the states stand that predict the targets
    targets, weights    (N,)           weights of all targets of a batch add up to 1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from ..interpreter.engine.scoring import Encoded
from ..interpreter.models.decoder import Layer

_WIDTH = 32  # lengths are padded to a multiple of this, so that few shapes come up
_PROMPT, _PADDING = 0, -1  # segments; cases are 1, 2, ...


class Packed(NamedTuple):
    """A batch, as the model and the loss take it."""

    tokens: mx.array
    positions: mx.array
    mask: mx.array
    rows: mx.array
    places: mx.array
    targets: mx.array
    weights: mx.array


class PackedCache:
    """What a packed batch sees: itself, by its mask. A `Cache` that keeps nothing."""

    def __init__(self, packed: Packed, num_layers: int) -> None:
        self._packed = packed
        self.layers: list[Layer | None] = [None] * num_layers  # of earlier tokens: there are none

    def mask(self, tokens: int) -> mx.array:
        """Return the batch's mask, (F, 1, T, T)."""
        return self._packed.mask

    def positions(self, tokens: int) -> mx.array:
        """Return the positions, (F, T)."""
        return self._packed.positions

    def update(self, layer: int, k: mx.array, v: mx.array) -> Layer:
        """Return the keys and values as they are: there are no others."""
        return k, v

    def advance(self, tokens: int) -> None:
        """Do nothing: a batch is one forward pass."""


def pack(functions: Sequence[tuple[Sequence[int], Sequence[Encoded]]]) -> Packed:
    """Lay functions side by side, each a prompt's tokens and its cases.

    Every case weighs the same, and its tokens by 1 / sqrt of their number: an output of a hundred
    tokens counts more than a label's, but not a hundred times.
    """
    lengths = [len(prompt) + sum(len(i) + len(o) for i, o in cases) for prompt, cases in functions]
    shape = len(functions), -(-max(lengths) // _WIDTH) * _WIDTH
    tokens, positions = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    segments = np.full(shape, _PADDING)
    targets: list[tuple[int, int, int, float]] = []
    for row, (prompt, cases) in enumerate(functions):
        end = len(prompt)
        tokens[row, :end], positions[row, :end] = prompt, np.arange(end)
        segments[row, :end] = _PROMPT
        for segment, (text, output) in enumerate(cases, 1):
            start, end = end, end + len(text) + len(output)
            tokens[row, start:end] = [*text, *output]
            positions[row, start:end] = len(prompt) + np.arange(end - start)
            segments[row, start:end] = segment
            first, weight = start + len(text) - 1, len(output) ** -0.5
            targets += [(row, first + i, target, weight) for i, target in enumerate(output)]
    rows, places, wanted, weights = zip(*targets, strict=True)
    return Packed(
        mx.array(tokens),
        mx.array(positions),
        mx.array(_visible(segments)[:, None]),
        mx.array(rows),
        mx.array(places),
        mx.array(wanted),
        mx.array(np.array(weights, np.float32) / sum(weights)),
    )


def _visible(segments: np.ndarray) -> np.ndarray:
    """Return which tokens (F, T, T) each sees: the prompt's and its segment's, up to itself."""
    of, seen = segments[:, :, None], segments[:, None, :]
    earlier = np.tri(segments.shape[1], dtype=bool)
    alike = (of == seen) | (seen == _PROMPT)
    return (alike & earlier & (seen != _PADDING)) | np.eye(segments.shape[1], dtype=bool)
