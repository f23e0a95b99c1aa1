"""The keys and values of the tokens seen so far.

`KV` holds sequences of equal length and grows by concatenation: prefixes, training, scoring.
`Slots` holds rows at different lengths in buffers that are written in place: decoding. Models
see either through the same four names.

    k, v            (B, kv_heads, T, head_dim)   of new tokens
    keys, values    (B, kv_heads, L, head_dim)   of all tokens, the new ones included
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx

from ..models.decoder import Layer

BLOCK = 128  # positions by which buffers grow


class KV:
    """Keys and values of every layer for a batch of sequences of equal length."""

    def __init__(self, num_layers: int) -> None:
        self.offset = 0
        self.identity = object()  # what a slot that holds these remembers
        self.layers: list[Layer | None] = [None] * num_layers

    @classmethod
    def of(cls, layers: Sequence[Layer]) -> KV:
        """Take those of tokens seen before."""
        kv = cls(0)
        keys, _ = layers[0]
        kv.offset, kv.layers = keys.shape[2], list(layers)
        return kv

    def fork(self) -> KV:
        """Return an independent continuation of the same tokens; arrays are never written into."""
        fork = KV(0)
        fork.offset, fork.layers = self.offset, list(self.layers)
        return fork

    def repeated(self, rows: int) -> KV:
        """Return a continuation in which one row (B = 1) is seen as `rows` equal ones, uncopied."""

        def view(x: mx.array) -> mx.array:
            return mx.broadcast_to(x, (rows, *x.shape[1:]))

        fork = KV(0)
        fork.offset = self.offset
        fork.layers = [layer and (view(layer[0]), view(layer[1])) for layer in self.layers]
        return fork

    def mask(self, tokens: int) -> str | None:
        """Return `causal`, or None for one token, which may see everything."""
        return "causal" if tokens > 1 else None

    def positions(self, tokens: int) -> mx.array:
        """Return the positions of the next tokens, (T,)."""
        return mx.arange(self.offset, self.offset + tokens)

    def update(self, layer: int, k: mx.array, v: mx.array) -> Layer:
        """Store the keys and values of new tokens; return those of all."""
        held = self.layers[layer] or (k[:, :, :0], v[:, :, :0])
        # A copy, also of the first: what models give are views, which keep all of q, k and v.
        k, v = (mx.concatenate([*p], axis=2) for p in zip(held, (k, v), strict=True))
        self.layers[layer] = k, v
        return k, v

    def advance(self, tokens: int) -> None:
        """Count tokens that every layer has stored."""
        self.offset += tokens

    @property
    def arrays(self) -> list[mx.array]:
        """What to evaluate so that nothing lazy remains."""
        return [array for layer in self.layers if layer for array in layer]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


class Slots:
    """Buffers of rows, each a sequence at its own length, written in place.

    keys, values   per layer (rows, kv_heads, capacity, head_dim), made when first written

    A slot remembers the prefix it holds: the next call of the same program copies nothing.
    """

    def __init__(self, num_layers: int) -> None:
        self.rows, self.capacity = 0, 0
        self._layers: list[Layer | None] = [None] * num_layers
        self._prefixes: list[tuple[object, int] | None] = []  # identity and length

    def reserve(self, rows: int, capacity: int) -> None:
        """Make room for `rows` sequences of `capacity` tokens; what they hold stays.

        Longer slots are made for these rows alone: those after them hold nobody.
        """
        capacity = round_up(capacity)
        if rows <= self.rows and capacity <= self.capacity:
            return
        if capacity > self.capacity:
            self.rows = min(rows, self.rows)
            del self._prefixes[self.rows :]
        self._resize(max(rows, self.rows), max(capacity, self.capacity))
        self._prefixes += [None] * (rows - self.rows)
        self.rows, self.capacity = max(rows, self.rows), max(capacity, self.capacity)

    def trim(self, rows: int, capacity: int) -> None:
        """Keep `rows` at most, and `capacity` tokens of each: what is beyond is lost."""
        capacity = round_up(capacity)
        if rows >= self.rows and capacity >= self.capacity:
            return
        self.rows, self.capacity = min(rows, self.rows), min(capacity, self.capacity)
        held = self._prefixes[: self.rows]
        self._prefixes = [h if h and h[1] <= self.capacity else None for h in held]
        self._resize(self.rows, self.capacity)

    def rest(self) -> None:
        """Keep the first row's prefix alone, when there is nothing to do."""
        held = self._prefixes[0] if self._prefixes else None
        self.trim(1, held[1] + BLOCK if held else BLOCK)

    def _resize(self, rows: int, capacity: int) -> None:
        """Give every buffer this size. A failure leaves none smaller than rows and capacity."""
        for i, layer in enumerate(self._layers):
            if layer is not None:
                k, v = (_copy_resized(buffer, rows, capacity) for buffer in layer)
                self._layers[i] = k, v
                del layer  # the old buffer goes before the next is made
                mx.eval(k, v)

    def clear(self) -> None:
        """Give all memory back."""
        self.rows = self.capacity = 0
        self._layers, self._prefixes = [None] * len(self._layers), []

    def load(self, slot: int, prefix: KV) -> None:
        """Begin a slot with a prefix, which costs nothing where it is held already."""
        held = prefix.identity, prefix.offset
        if self._prefixes[slot] != held:
            for i, layer in enumerate(prefix.layers):
                if layer is not None:
                    k, v = layer
                    keys, values = self.buffers(i, k)
                    keys[slot : slot + 1, :, : prefix.offset] = k
                    values[slot : slot + 1, :, : prefix.offset] = v
            self._prefixes[slot] = held

    def move(self, sources: Sequence[int], targets: Sequence[int], length: int) -> None:
        """Let rows go on in other slots; at most `length` tokens of each are valid."""
        held = [self._prefixes[source] for source in sources]
        there = [self._prefixes[target] for target in targets]
        start = min(h[1] if h and h == t else 0 for h, t in zip(held, there, strict=True))
        rows, places = mx.array([*sources]), mx.array([*targets])
        taken = [
            [mx.take(buffer[:, :, start:length], rows, axis=0) for buffer in layer]
            for layer in self._layers
            if layer is not None
        ]
        mx.eval(taken)  # no view of the buffers may be left, or writing would copy them
        for (keys, values), (k, v) in zip(filter(None, self._layers), taken, strict=True):
            keys[places, :, start:length] = k
            values[places, :, start:length] = v
        for target, prefix in zip(targets, held, strict=True):
            self._prefixes[target] = prefix

    def wipe(self, slot: int, start: int = 0) -> None:
        """Write zeros over a row from `start` on.

        Masked, what is not finite would still spoil what comes after it.
        """
        for keys, values in filter(None, self._layers):
            keys[slot : slot + 1, :, start:] = 0
            values[slot : slot + 1, :, start:] = 0
        if not start:
            self._prefixes[slot] = None

    def view(self, start: int, offsets: Sequence[int]) -> SlotKV:
        """Return the rows from `start` on, of these lengths, as a model sees them."""
        return SlotKV(self, start, offsets)

    @property
    def arrays(self) -> list[mx.array]:
        return [array for layer in self._layers if layer for array in layer]

    @property
    def nbytes(self) -> int:
        """What all buffers take."""
        return sum(array.nbytes for array in self.arrays)

    def replace(self, arrays: Sequence[mx.array]) -> None:
        """Put other buffers in place of `arrays`, of the same shapes."""
        self._layers = [*zip(arrays[::2], arrays[1::2], strict=True)]

    def buffers(self, layer: int, like: mx.array) -> Layer:
        """Return a layer's buffers, made if there are none."""
        if (held := self._layers[layer]) is None:
            _, heads, _, dim = like.shape
            shape = self.rows, heads, self.capacity, dim
            held = self._layers[layer] = mx.zeros(shape, like.dtype), mx.zeros(shape, like.dtype)
        return held


class SlotKV:
    """Consecutive slots as a batch: row b goes on at offsets[b]. Reserve room beforehand.

    A single row is seen as `KV` shows it, without a mask over positions.
    """

    def __init__(self, slots: Slots, start: int, offsets: Sequence[int]) -> None:
        self._slots, self._start, self._offsets = slots, start, list(offsets)
        # of this forward, for every layer
        self._positions: mx.array | None = None
        self._places: tuple[mx.array, ...] | None = None

    def mask(self, tokens: int) -> str | mx.array | None:
        """Let row b's token t see the positions up to offsets[b] + t: bool (B, 1, T, L)."""
        if len(self._offsets) == 1:
            return "causal" if tokens > 1 else None
        return mask_later(self.positions(tokens), max(self._offsets) + tokens)

    def positions(self, tokens: int) -> mx.array:
        """Return the positions of the next tokens, (B, T)."""
        if self._positions is None:
            self._positions = mx.array(self._offsets)[:, None] + mx.arange(tokens)
        return self._positions

    def update(self, layer: int, k: mx.array, v: mx.array) -> Layer:
        """Write the keys and values of new tokens in place; return those of all."""
        keys, values = self._slots.buffers(layer, k)
        rows, tokens = len(self._offsets), k.shape[2]
        start, stop, end = self._start, self._start + rows, max(self._offsets) + tokens
        if rows == 1:
            keys[start:stop, :, end - tokens : end] = k
            values[start:stop, :, end - tokens : end] = v
        else:
            if self._places is None:
                self._places = places_of(self.positions(tokens), k.shape[1], start)
            keys[self._places], values[self._places] = k, v
        return keys[start:stop, :, :end], values[start:stop, :, :end]

    def advance(self, tokens: int) -> None:
        """Count tokens that every layer has stored."""
        self._offsets = [offset + tokens for offset in self._offsets]
        self._positions = self._places = None


def mask_later(positions: mx.array, length: int) -> mx.array:
    """Let tokens at positions (B, T) see themselves and what is before: bool (B, 1, T, length)."""
    return (mx.arange(length) <= positions[:, :, None])[:, None]


def places_of(positions: mx.array, heads: int, start: int) -> tuple[mx.array, ...]:
    """Return where tokens at positions (B, T) go in slots from `start` on.

    Indices that broadcast to (B, kv_heads, T).
    """
    rows = mx.arange(start, start + positions.shape[0])
    return rows[:, None, None], mx.arange(heads)[None, :, None], positions[:, None]


def round_up(capacity: int) -> int:
    """Return a number of tokens as whole blocks."""
    return -(-capacity // BLOCK) * BLOCK


def _copy_resized(buffer: mx.array, rows: int, capacity: int) -> mx.array:
    """Copy a buffer to other rows and capacity, new ones zero; a view would hold it all."""
    cut = mx.take(buffer[:, :, :capacity], mx.arange(min(rows, buffer.shape[0])), axis=0)
    missing = rows - cut.shape[0], capacity - cut.shape[2]
    return mx.pad(cut, [(0, missing[0]), (0, 0), (0, missing[1]), (0, 0)])
