"""The keys and values of the tokens seen so far.

A fork shares every buffer with its origin until either writes: that is how one evaluated
prefix serves every call.

    keys, values    (B, kv_heads, capacity, head_dim) per layer; the first `offset` are valid
"""

from __future__ import annotations

import mlx.core as mx

_SPARE = 255  # positions added when a buffer is full and the next token comes


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
        keys, values = self._layers[layer] or (k[..., :0, :], v[..., :0, :])
        end = self.offset + k.shape[2]
        if end > keys.shape[2]:
            keys, values = self._grown(keys, k), self._grown(values, v)
        else:
            keys, values = keys[:], values[:]  # assignment writes into the object forks share
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

    def _grown(self, held: mx.array, new: mx.array) -> mx.array:
        """Held and new in one buffer, with spare room if tokens come one by one."""
        parts = [held[..., : self.offset, :], new]
        if new.shape[2] == 1:
            batch, heads, _, dim = new.shape
            parts.append(mx.zeros((batch, heads, _SPARE, dim), new.dtype))
        return mx.concatenate(parts, axis=2)
