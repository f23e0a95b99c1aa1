"""The forward pass of a step, traced once and replayed where there is a GPU.

Building a step's graph in Python takes longer than a fast GPU takes to run it. So a step of a
shape that comes again is compiled whole: one function of tokens, lengths, the slots' indices and
the keys and values, in which weights and adapters are constants. Tracing costs what a dozen plain
steps cost, so a shape has to come a few times first; and what the bank writes (an adapter into a
slot, or below the base) it tells beforehand, and every trace is dropped.

    tokens    (B, T)     the last one of every row, and a draft after it
    offsets   (B,)       tokens that each row's slot holds
    logits    (B, T, V)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from weakref import WeakMethod

import mlx.core as mx

from ...device import on_gpu
from ..adapters.bank import Bank
from ..models.decoder import Decoder, Layer
from .kv import Slots, mask_later, places_of, round_up

PATIENCE = 8  # steps of one shape before it is traced
_MAX_TRACES = 64

_Shape = tuple[int, ...]
_Traced = Callable[..., Sequence[mx.array]]


class Step:
    """The forward passes of one batch's rows."""

    def __init__(self, model: Decoder, bank: Bank, slots: Slots) -> None:
        self._model, self._bank, self._slots = model, bank, slots
        self._seen: Counter[_Shape] = Counter()
        self._traces: dict[_Shape, _Traced] = {}
        forget = WeakMethod(self.clear)  # or bank and step would keep each other
        bank.before_change = lambda: (clear := forget()) and clear()

    def logits(self, tokens: mx.array, lengths: Sequence[int]) -> mx.array:
        """Continue the first rows by tokens (B, T): logits (B, T, V).

        The bank was told their programs, and the slots have room; they hold the tokens afterwards.
        """
        if not on_gpu() or self._bank.always_hot:  # which promises the same bits every time
            return self._plain(tokens, lengths)
        rows, width = tokens.shape
        read = min(round_up(max(lengths) + width), self._slots.capacity)
        shape = rows, width, read, self._slots.rows, self._slots.capacity, self._bank.form_id
        traced = self._traces.get(shape)
        if traced is None:
            self._seen[shape] += 1
            if self._seen[shape] < PATIENCE:
                return self._plain(tokens, lengths)
            if len(self._traces) >= _MAX_TRACES:
                del self._traces[next(iter(self._traces))]  # the oldest
            traced = self._traces[shape] = mx.compile(self._function(rows, read))
        arrays, indices = self._slots.arrays, self._bank.indices
        logits, *written = traced(tokens, mx.array([*lengths]), *indices, *arrays)
        self._slots.replace(written)
        return logits

    def clear(self) -> None:
        """Forget all traces, and the weights that they hold, in flight too."""
        if on_gpu():
            mx.synchronize()
        self._traces.clear()
        self._seen.clear()

    def _plain(self, tokens: mx.array, lengths: Sequence[int]) -> mx.array:
        model = self._model
        return model.logits(model.hidden(tokens, self._slots.view(0, lengths)))

    def _function(self, rows: int, read: int) -> _Traced:
        """Make the function of one shape; `bank` and `model` are read when it is traced."""
        model, bank, num_indices = self._model, self._bank, len(self._bank.indices)

        def forward(tokens: mx.array, offsets: mx.array, *arrays: mx.array) -> list[mx.array]:
            kv = TracedKV(arrays[num_indices:], offsets, rows, read)
            with bank.traced(arrays[:num_indices]):
                logits = model.logits(model.hidden(tokens, kv))
            return [logits, *kv.arrays]

        return forward


class TracedKV:
    """Slots as a traced function sees them: all of their room, and offsets that are an array."""

    def __init__(self, arrays: Sequence[mx.array], offsets: mx.array, rows: int, read: int) -> None:
        self.arrays = list(arrays)  # keys and values of layer 0, of layer 1 ...
        self._offsets, self._rows, self._read = offsets, rows, read
        self._positions: mx.array | None = None
        self._places: tuple[mx.array, ...] | None = None

    def mask(self, tokens: int) -> mx.array:
        """Let row b's token t see the positions up to offsets[b] + t: bool (B, 1, T, L)."""
        return mask_later(self.positions(tokens), self._read)

    def positions(self, tokens: int) -> mx.array:
        """Return the positions of the next tokens, (B, T)."""
        if self._positions is None:
            self._positions = self._offsets[:, None] + mx.arange(tokens)
        return self._positions

    def update(self, layer: int, k: mx.array, v: mx.array) -> Layer:
        """Write the keys and values of new tokens; return those of all that is read."""
        read = []
        for i, new in ((2 * layer, k), (2 * layer + 1, v)):
            self.arrays[i] = self._write(self.arrays[i], new)
            read.append(self.arrays[i][: self._rows, :, : self._read])
        return read[0], read[1]

    def advance(self, tokens: int) -> None:
        """Do nothing: who traces knows the lengths."""

    def _write(self, held: mx.array, new: mx.array) -> mx.array:
        """Scatter new tokens: one kernel, where an update at an array's offset takes two."""
        if self._places is None:
            self._places = places_of(self.positions(new.shape[2]), new.shape[1], 0)
        held = held[:]  # what is assigned to is another object than the input
        held[self._places] = new
        return held
