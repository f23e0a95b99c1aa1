"""The keys and values of the tokens seen so far.

MLX arrays are immutable, so a fork shares everything until it grows: that is how one
evaluated prefix serves every call.

    keys, values    (B, kv_heads, capacity, head_dim) per layer; the first `offset` are valid
"""

from __future__ import annotations

import mlx.core as mx

_STEP = 256  # positions added when a buffer is full


class KV:
    """Keys and values of every layer for one batch of sequences of equal length."""

    def __init__(self, num_layers: int) -> None:
        self.offset = 0
        self._layers: list[tuple[mx.array, mx.array] | None] = [None] * num_layers

    def fork(self) -> KV:
        """An independent continuation of the same tokens; costs no memory until it grows."""
        fork = KV(0)
        fork.offset, fork._layers = self.offset, list(self._layers)
        return fork

    def repeated(self, rows: int) -> KV:
        """A continuation in which one row (B = 1) is seen as `rows` equal ones."""
        fork = KV(0)
        fork.offset = self.offset
        fork._layers = [
            layer and (mx.repeat(layer[0], rows, axis=0), mx.repeat(layer[1], rows, axis=0))
            for layer in self._layers
        ]
        return fork

    def update(self, layer: int, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
        """Store k, v (B, kv_heads, T, head_dim) of new tokens; return those of all tokens.

        The offset moves with `advance`, once all layers have stored theirs.
        """
        end = self.offset + k.shape[2]
        keys, values = self._layers[layer] or (k[..., :0, :], v[..., :0, :])
        if end > keys.shape[2]:
            keys, values = self._grown(keys, end), self._grown(values, end)
        keys[..., self.offset : end, :] = k
        values[..., self.offset : end, :] = v
        self._layers[layer] = keys, values
        return keys[..., :end, :], values[..., :end, :]

    def advance(self, tokens: int) -> None:
        """Count tokens that every layer has stored."""
        self.offset += tokens

    @property
    def arrays(self) -> list[mx.array]:
        """What to evaluate so that nothing lazy remains."""
        return [array for layer in self._layers if layer for array in layer]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)

    def _grown(self, held: mx.array, end: int) -> mx.array:
        """A copy with room for `end` tokens and some more."""
        batch, heads, _, dim = held.shape
        room = -(-end // _STEP) * _STEP - self.offset
        spare = mx.zeros((batch, heads, room, dim), held.dtype)
        return mx.concatenate([held[..., : self.offset, :], spare], axis=2)
