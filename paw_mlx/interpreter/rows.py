"""Rows that carry adapters: every row of a batch runs its own program, in two products more.

    A   (S, P * R, d_in)         a slot per program: the A of a group's P parts, padded to rank R
    B   (S, chunks, width, R)    the B of all parts, cut into chunks of one width; scale folded in
    x (B, T, d_in) -> h (B, T, P * R) -> (B, P, T, R) -> (B, chunks, T, width) -> (B, T, d_out)

Slot 0 is all zeros, for a row without an adapter. A slot is written in place: nothing else
may refer to an array when the write is evaluated, or MLX copies all slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import mlx.core as mx
import numpy as np

from ..adapter import Adapter, Matrix
from ..formats import mlx_q4
from .parallel import Parallel
from .parallel import product as base_product

_GROUP, _BITS = mlx_q4.QUANTIZATION["group_size"], mlx_q4.QUANTIZATION["bits"]
_WORD = 32 // _BITS  # codes in a uint32

Arrays = list[mx.array]  # a matrix of every slot; the list stays, its arrays are replaced


class Layout(Protocol):
    """How A and B are kept: as arrays whose last two axes are a matrix."""

    def blank(self, *shape: int) -> list[np.ndarray]:
        """Zeros to fill with what `parts` gives."""

    def parts(self, m: Matrix, scale: float) -> list[np.ndarray]:
        """A matrix times `scale`, as it is copied into a blank."""

    def settled(self, parts: Sequence[np.ndarray]) -> list[mx.array]:
        """Filled blanks as `Arrays` hold them, lazy."""

    def nbytes(self, elements: int) -> int:
        """Bytes of so many elements."""

    def product(self, x: mx.array, held: Arrays, lhs: mx.array, rhs: mx.array) -> mx.array:
        """x[lhs] @ held[rhs].T; the indices count matrices, whatever axes they stand in."""


class Dense:
    """Numbers in the base's dtype."""

    def __init__(self, dtype: mx.Dtype) -> None:
        self.dtype = dtype

    def blank(self, *shape: int) -> list[np.ndarray]:
        return [np.zeros(shape, np.float32)]

    def parts(self, m: Matrix, scale: float) -> list[np.ndarray]:
        return [np.float32(scale) * m.dense()]

    def settled(self, parts: Sequence[np.ndarray]) -> list[mx.array]:
        return [mx.array(part).astype(self.dtype) for part in parts]

    def nbytes(self, elements: int) -> int:
        return elements * self.dtype.size

    def product(self, x: mx.array, held: Arrays, lhs: mx.array, rhs: mx.array) -> mx.array:
        return mx.gather_mm(x, held[0].swapaxes(-1, -2), lhs_indices=lhs, rhs_indices=rhs)


class Packed:
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

    def settled(self, parts: Sequence[np.ndarray]) -> list[mx.array]:
        scales = mx.array(parts[1]).astype(self.dtype)
        return [mx.array(parts[0]), scales, -8 * scales]

    def nbytes(self, elements: int) -> int:
        return elements * _BITS // 8 + 2 * self.dtype.size * elements // _GROUP

    def product(self, x: mx.array, held: Arrays, lhs: mx.array, rhs: mx.array) -> mx.array:
        codes, scales, biases = held
        return mx.gather_qmm(
            x, codes, scales, biases, lhs, rhs, transpose=True, group_size=_GROUP, bits=_BITS
        )


class Indices(NamedTuple):
    """Which matrix a product takes: for A per row (B,), for B per row and chunk (B, chunks)."""

    rows: mx.array
    slots: mx.array
    parts: mx.array
    chunks: mx.array

    @classmethod
    def of(cls, slots: Sequence[int], owner: Sequence[int], num_parts: int) -> Indices:
        """The indices for rows in these slots; `owner` says which part a chunk is of."""
        at, rows = np.array(slots)[:, None], np.arange(len(slots))[:, None]
        chunks = len(owner)
        made = (
            rows[:, 0],
            at[:, 0],
            rows * num_parts + np.array(owner),
            at * chunks + np.arange(chunks),
        )
        return cls(*(mx.array(index.astype(np.uint32)) for index in made))


class Rows:
    """A form: one group of linear layers in which every row has its own slot."""

    indices: Indices

    def __init__(self, group: Parallel, layout: Layout, rank: int) -> None:
        self._stacks, self._parts = group.stacks, list(zip(group.sites, group.d_outs, strict=True))
        self._shapes = (
            (len(group.sites) * rank, group.d_in),
            (group.chunks, group.width, rank),
        )
        self._layout, self._rank = layout, rank
        self.A, self.B = (
            [mx.zeros((1, *part.shape), part.dtype) for part in layout.settled(blank)]
            for blank in self._blanks()
        )

    def __call__(self, x: mx.array) -> mx.array:
        rows, tokens, _ = x.shape
        i, product = self.indices, self._layout.product
        assert rows == i.rows.size, "the bank was not told which programs these rows run"
        h = product(x, self.A, i.rows, i.slots).reshape(rows, tokens, -1, self._rank)
        delta = product(_turned(h), self.B, i.parts, i.chunks)  # (B, chunks, T, width)
        return base_product(self._stacks, x) + _turned(delta).reshape(rows, tokens, -1)

    def write(self, slot: int, adapter: Adapter) -> None:
        """Put an adapter into a slot, lazily; sites it lacks become zeros."""
        (A, B), top = self._blanks(), 0
        for part, (site, d_out) in enumerate(self._parts):
            if lora := adapter.sites.get(site):
                for into, values in zip(A, self._layout.parts(lora.A, 1.0), strict=True):
                    into[part * self._rank :][: lora.rank] = values
                for into, values in zip(B, self._layout.parts(lora.B, lora.scale), strict=True):
                    into.reshape(-1, into.shape[-1])[top : top + d_out, : values.shape[1]] = values
            top += d_out
        for held, blank in ((self.A, A), (self.B, B)):
            for array, block in zip(held, self._layout.settled(blank), strict=True):
                array[slot] = block

    def grow(self, capacity: int) -> None:
        """Make room for more slots; arrays are copied one after the other."""
        for held in (self.A, self.B):
            for n in range(len(held)):
                slots, *shape = held[n].shape
                more = mx.zeros((capacity - slots, *shape), held[n].dtype)
                held[n] = mx.concatenate([held[n], more])
                mx.eval(held[n])

    def clear(self) -> None:
        """Give the memory back; the form runs no more."""
        self.A.clear()
        self.B.clear()

    def _blanks(self) -> list[list[np.ndarray]]:
        return [self._layout.blank(*shape) for shape in self._shapes]


class Storage:
    """Room for adapters of one layout and rank, in every group."""

    def __init__(self, groups: Sequence[Parallel], layout: Layout, rank: int) -> None:
        self.rank, self.capacity = rank, 1
        self.forms = [Rows(group, layout, rank) for group in groups]
        self._parts = [(group.owner, len(group.sites)) for group in groups]

    def grow(self, capacity: int) -> None:
        """Make room for more slots."""
        for form in self.forms:
            form.grow(capacity)
        self.capacity = capacity

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
        made = {parts: Indices.of(slots, *parts) for parts in set(self._parts)}
        for form, parts in zip(self.forms, self._parts, strict=True):
            form.indices = made[parts]


def _turned(x: mx.array) -> mx.array:
    """Axes 1 and 2 swapped; where one of them has length 1 that moves nothing."""
    rows, a, b, last = x.shape
    return x.reshape(rows, b, a, last) if 1 in (a, b) else x.swapaxes(1, 2)
