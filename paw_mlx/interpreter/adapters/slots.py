"""Slots for adapters: every row of a batch runs its own program, in two products more.

    A   (S, P * R, d_in)         a slot per program: the A of a group's P parts, padded to rank R
    B   (S, chunks, width, R)    the B of all parts, cut into chunks of one width; scale folded in
    x (B, T, d_in) -> h (B, T, P * R) -> (B, P, T, R) -> (B, chunks, T, width) -> (B, T, d_out)

Slot 0 is all zeros, for a row without an adapter. A slot is written in place: nothing else
may refer to an array when the write is evaluated, or MLX copies all slots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import mlx.core as mx
import numpy as np

from ...adapter import Adapter, Matrix
from ...formats import mlx_q4
from .parallel import Parallel, base_product

_GROUP, _BITS = mlx_q4.QUANTIZATION["group_size"], mlx_q4.QUANTIZATION["bits"]
_WORD = 32 // _BITS  # codes in a uint32

Arrays = list[mx.array]  # a matrix of every slot; the list stays, its arrays are replaced


class Encoding(Protocol):
    """How slots hold A and B: as arrays whose last two axes are a matrix."""

    def blank(self, *shape: int) -> list[np.ndarray]:
        """Return zeros, to fill with what `parts` gives."""

    def parts(self, m: Matrix, scale: float) -> list[np.ndarray]:
        """Return a matrix times `scale`, as it is copied into a blank."""

    def finish(self, parts: Sequence[np.ndarray]) -> list[mx.array]:
        """Return filled blanks as `Arrays` hold them, lazy."""

    def nbytes(self, elements: int) -> int:
        """Return the bytes of so many elements."""

    def product(self, x: mx.array, held: Arrays, lhs: mx.array, rhs: mx.array) -> mx.array:
        """Return x[lhs] @ held[rhs].T; indices count matrices, whatever axes they stand in."""


class DenseEncoding:
    """Numbers in the base's dtype."""

    def __init__(self, dtype: mx.Dtype) -> None:
        self.dtype = dtype

    def blank(self, *shape: int) -> list[np.ndarray]:
        return [np.zeros(shape, np.float32)]

    def parts(self, m: Matrix, scale: float) -> list[np.ndarray]:
        return [np.float32(scale) * m.dense()]

    def finish(self, parts: Sequence[np.ndarray]) -> list[mx.array]:
        return [mx.array(part).astype(self.dtype) for part in parts]

    def nbytes(self, elements: int) -> int:
        return elements * self.dtype.size

    def product(self, x: mx.array, held: Arrays, lhs: mx.array, rhs: mx.array) -> mx.array:
        return mx.gather_mm(x, held[0].swapaxes(-1, -2), lhs_indices=lhs, rhs_indices=rhs)


class PackedEncoding:
    """Q4_0 in MLX's 4-bit form: the file's own codes, a scale, and -8 times it as the bias.

    Scales have the base's dtype, since others would be cast in every forward: the file's
    numbers in float32 and float16 (unless B's, folded, leave its range), rounded in bfloat16.
    """

    def __init__(self, dtype: mx.Dtype) -> None:
        self.dtype = dtype

    def blank(self, *shape: int) -> list[np.ndarray]:
        *rows, columns = shape
        codes = np.zeros((*rows, columns // _WORD), np.uint32)
        return [codes, np.zeros((*rows, columns // _GROUP), np.float32)]

    def parts(self, m: Matrix, scale: float) -> list[np.ndarray]:
        return [mlx_q4.codes(m), np.float32(scale) * mlx_q4.scales(m).astype(np.float32)]

    def finish(self, parts: Sequence[np.ndarray]) -> list[mx.array]:
        scales = mx.array(parts[1]).astype(self.dtype)
        return [mx.array(parts[0]), scales, -8 * scales]

    def nbytes(self, elements: int) -> int:
        return elements * _BITS // 8 + 2 * self.dtype.size * elements // _GROUP

    def product(self, x: mx.array, held: Arrays, lhs: mx.array, rhs: mx.array) -> mx.array:
        codes, scales, biases = held
        return mx.gather_qmm(
            x, codes, scales, biases, lhs, rhs, transpose=True, group_size=_GROUP, bits=_BITS
        )


class SlotIndices(NamedTuple):
    """Which matrix a product takes: for A per row (B,), for B per row and chunk (B, chunks)."""

    rows: mx.array
    slots: mx.array
    parts: mx.array
    chunks: mx.array

    @classmethod
    def of(cls, slots: Sequence[int], owner: Sequence[int], num_parts: int) -> SlotIndices:
        """Return the indices of rows in these slots; `owner` says which part a chunk is of."""
        at, rows = np.array(slots)[:, None], np.arange(len(slots))[:, None]
        chunks = len(owner)
        made = (
            rows[:, 0],
            at[:, 0],
            rows * num_parts + np.array(owner),
            at * chunks + np.arange(chunks),
        )
        return cls(*(mx.array(index.astype(np.uint32)) for index in made))


class SlotForm:
    """A form: one group of linear layers in which every row has its own slot."""

    indices: SlotIndices

    def __init__(self, group: Parallel, encoding: Encoding, rank: int) -> None:
        self._stacks, self._parts = group.stacks, list(zip(group.sites, group.d_outs, strict=True))
        self._shapes = (
            (len(group.sites) * rank, group.d_in),
            (group.chunks, group.width, rank),
        )
        self._encoding, self._rank = encoding, rank
        self.A, self.B = (
            [mx.zeros((1, *part.shape), part.dtype) for part in encoding.finish(blank)]
            for blank in self._blanks()
        )

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, d_in) -> (B, T, sum of d_outs)."""
        B, T, _ = x.shape
        i, product = self.indices, self._encoding.product
        assert i.rows.size == B, "the bank was not told which programs these rows run"
        h = product(x, self.A, i.rows, i.slots)  # (B, T, P * R)
        h = _swap(h.reshape(B, T, -1, self._rank))  # (B, P, T, R)
        delta = product(h, self.B, i.parts, i.chunks)  # (B, chunks, T, width)
        return base_product(self._stacks, x) + _swap(delta).reshape(B, T, -1)

    def write(self, slot: int, adapter: Adapter) -> None:
        """Put an adapter into a slot, lazily; sites it lacks become zeros."""
        (A, B), top = self._blanks(), 0
        for part, (site, d_out) in enumerate(self._parts):
            if lora := adapter.sites.get(site):
                for into, values in zip(A, self._encoding.parts(lora.A, 1.0), strict=True):
                    into[part * self._rank :][: lora.rank] = values
                for into, values in zip(B, self._encoding.parts(lora.B, lora.scale), strict=True):
                    into.reshape(-1, into.shape[-1])[top : top + d_out, : values.shape[1]] = values
            top += d_out
        for held, blank in ((self.A, A), (self.B, B)):
            for array, block in zip(held, self._encoding.finish(blank), strict=True):
                array[slot] = block

    def replace(self, change: Callable[[mx.array], mx.array]) -> None:
        """Put other arrays in place of those there are, one after the other."""
        for held in (self.A, self.B):
            for n in range(len(held)):
                held[n] = change(held[n])
                mx.eval(held[n])

    def clear(self) -> None:
        """Give the memory back; the form runs no more."""
        self.A.clear()
        self.B.clear()

    def _blanks(self) -> list[list[np.ndarray]]:
        return [self._encoding.blank(*shape) for shape in self._shapes]


class AdapterSlots:
    """Room for adapters of one encoding and rank, in every group; slot 0 stays zero.

    A failure leaves no array with fewer slots than `capacity`.
    """

    def __init__(self, groups: Sequence[Parallel], encoding: Encoding, rank: int) -> None:
        self.rank, self.capacity = rank, 1
        self.forms = [SlotForm(group, encoding, rank) for group in groups]
        self._parts = [(group.owner, len(group.sites)) for group in groups]
        self._kinds = list(dict.fromkeys(self._parts))  # groups of one kind share their indices
        self.indices: list[SlotIndices] = []  # of each kind

    def grow(self, capacity: int) -> None:
        """Make room for more slots."""

        def extend(array: mx.array) -> mx.array:
            missing = max(0, capacity - len(array))
            return mx.concatenate([array, mx.zeros((missing, *array.shape[1:]), array.dtype)])

        for form in self.forms:
            form.replace(extend)
        self.capacity = capacity

    def keep(self, slots: Sequence[int]) -> None:
        """Let go of all slots but these, which become 1, 2 and so on; rows point nowhere."""
        order = mx.array([0, *slots])
        self.capacity = 1 + len(slots)
        for form in self.forms:
            form.replace(lambda array: mx.take(array, order, axis=0))
        mx.clear_cache()

    def clear(self) -> None:
        """Give the memory back; the forms run no more."""
        for form in self.forms:
            form.clear()
        self.capacity = 0

    def write(self, slot: int, adapter: Adapter) -> None:
        """Put an adapter into a slot, in place of whatever is there."""
        for form in self.forms:
            form.write(slot, adapter)
        mx.eval([array for form in self.forms for array in (*form.A, *form.B)])

    def point(self, slots: Sequence[int]) -> None:
        """Give every row of the next forwards its slot."""
        self.use([SlotIndices.of(slots, *parts) for parts in self._kinds])

    def use(self, indices: list[SlotIndices]) -> None:
        """Let the next forwards take these indices, one for each kind of group."""
        self.indices = indices
        for form, parts in zip(self.forms, self._parts, strict=True):
            form.indices = indices[self._kinds.index(parts)]


def _swap(x: mx.array) -> mx.array:
    """Swap axes 1 and 2; where one of them has length 1 that moves nothing."""
    rows, a, b, last = x.shape
    return x.reshape(rows, b, a, last) if 1 in (a, b) else x.swapaxes(1, 2)
