"""One program at nearly the cost of the bare base: two products per group of linear layers.

    [Wx | Ax] in one product, A's rows below the base's    (B * T, sum of d_outs + chunks * R)
    y + B(Ax) in one `addmm`, a batch over chunks          (chunks, B * T, width)

    A   (chunks * R, d_in)      by chunk: a part's A once for each of its chunks, R the group's
                                largest rank; sites without A and B are zeros
    B   (chunks, R, width)      scale folded in by float32, then in the base's dtype

Below a packed base A is packed too, Q4_0's own codes, exact wherever the base's dtype holds
their scales. That takes 4 bits or more; where it does not apply (an A of another type, fewer
bits, parts that are packed unlike each other) A stays apart: one product more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import mlx.core as mx
import numpy as np

from ...adapter import Adapter, Lora, Matrix
from ...formats import mlx_q4
from ..base.tensors import Tensors
from .lora import decode
from .parallel import GROUP, Parallel, base_product

ALIGNED = 8  # rows: what MLX's fastest quantized kernel wants


class HotForm:
    """A form: a group with one adapter. It runs until the next one is made for its group."""

    def __init__(self, group: Parallel, loras: Sequence[Lora | None]) -> None:
        self._stacks, self._chunks, self._width = group.stacks, group.chunks, group.width
        self._rank = max(lora.rank for lora in loras if lora)
        self._b = _make_b(group, loras, self._rank)
        self._below, self._a = 0, None
        if parts := _make_rows_below(group, loras, self._rank):
            self._below = len(parts["weight"])
            self._stacks[0].put(parts)
        else:
            self._a = _make_dense_a(group, loras, self._rank).T

    @property
    def arrays(self) -> Any:
        """A tree of what is still lazy after it was made."""
        return [stack.parameters() for stack in self._stacks], self._a, self._b

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, d_in) -> (B, T, chunks, width)."""
        B, T, _ = x.shape
        if self._a is None:
            both, rows = self._stacks[0](x, self._below), self._stacks[0].num_rows
            y, h = both[..., :rows], both[..., rows : rows + self._chunks * self._rank]
        else:
            y, h = base_product(self._stacks, x), x @ self._a
        y = mx.addmm(self._by_chunk(y), self._by_chunk(h), self._b)  # (chunks, B * T, width)
        return y.swapaxes(0, 1).reshape(B, T, self._chunks, self._width)

    def _by_chunk(self, y: mx.array) -> mx.array:
        """(B, T, chunks * n) -> (chunks, B * T, n), as a view."""
        B, T, columns = y.shape
        if B * T == 1:  # strides that leave no doubt: a vector per chunk
            return y.reshape(self._chunks, 1, columns // self._chunks)
        return y.reshape(B * T, self._chunks, columns // self._chunks).swapaxes(0, 1)


def heat(groups: Iterable[Parallel], adapter: Adapter) -> None:
    """Let every group run `adapter` alone; those that it does not touch run bare."""
    for _, layer in groupby(groups, key=lambda group: group.sites[0].layer):
        made = []
        for group in layer:
            group.form = None  # the old B goes before the new one is made
            loras = [adapter.sites.get(site) for site in group.sites]
            if any(loras):
                group.form = HotForm(group, loras)
                made.append(group.form)
        mx.eval([form.arrays for form in made])  # a layer's at a time: buffers are copied once
    mx.clear_cache()


def _make_b(group: Parallel, loras: Sequence[Lora | None], rank: int) -> mx.array:
    """Return B of all parts, scaled: (chunks, rank, width)."""
    parts = [
        _pad(lora.scale * decode(lora.B), d_out, rank) if lora else mx.zeros((d_out, rank))
        for lora, d_out in zip(loras, group.d_outs, strict=True)
    ]
    chunks = mx.concatenate(parts)  # (sum of d_outs, rank)
    chunks = chunks.reshape(group.chunks, group.width, rank)
    return mx.contiguous(chunks.astype(group.dtype).swapaxes(1, 2))


def _make_rows_below(group: Parallel, loras: Sequence[Lora | None], rank: int) -> Tensors | None:
    """Return what to put below the base's rows: A of every chunk; None if it cannot be there."""
    if len(group.stacks) > 1:
        return None
    packing = group.stacks[0].packing
    if packing is None:
        return {"weight": _align(_make_dense_a(group, loras, rank))}
    if packing["bits"] < 4 or any(lora.A.dtype != "q4_0" for lora in loras if lora):
        return None
    parts = [_pack_a(lora.A if lora else None, group.d_in, packing["bits"]) for lora in loras]
    codes, scales = (_repeat_by_owner(arrays, group, rank) for arrays in zip(*parts, strict=True))
    scales = scales.astype(group.dtype)
    below = {"weight": codes, "scales": scales, "biases": -8 * scales}
    return {name: _align(rows) for name, rows in below.items()}


def _pack_a(A: Matrix | None, d_in: int, bits: int) -> tuple[mx.array, mx.array]:
    """Return the codes of a q4_0 A in `bits`, and its scales; a row of zeros for none."""
    if A is None:
        return mx.zeros((1, d_in * bits // 32), mx.uint32), mx.zeros((1, d_in // GROUP))
    codes, scales = widen(mlx_q4.codes(A), bits), mlx_q4.scales(A)
    return mx.array(codes), mx.array(scales.astype(np.float32))


def _make_dense_a(group: Parallel, loras: Sequence[Lora | None], rank: int) -> mx.array:
    """Return A of every chunk in the base's dtype, (chunks * rank, d_in)."""
    parts = [decode(lora.A) if lora else mx.zeros((1, group.d_in)) for lora in loras]
    return _repeat_by_owner(parts, group, rank).astype(group.dtype)


def _repeat_by_owner(parts: Sequence[mx.array], group: Parallel, rank: int) -> mx.array:
    """Return each part's rows, filled up to `rank` with zeros, once for each chunk it owns."""
    filled = [_pad(part, rank, part.shape[1]) for part in parts]
    return mx.concatenate([filled[i] for i in group.owner])


def _pad(x: mx.array, rows: int, columns: int) -> mx.array:
    """Put zeros below and on the right."""
    return mx.pad(x, [(0, rows - x.shape[0]), (0, columns - x.shape[1])])


def _align(rows: mx.array) -> mx.array:
    return _pad(rows, -(-len(rows) // ALIGNED) * ALIGNED, rows.shape[1])


def widen(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return 4-bit codes, uint32 (rows, columns / 8), in more bits: a stream, lowest first."""
    if bits == 4:
        return codes
    elements = (codes[..., None] >> np.arange(0, 32, 4, dtype=np.uint32) & 15).astype(np.uint8)
    stream = np.unpackbits(elements[..., None], axis=-1, count=bits, bitorder="little")
    return np.packbits(stream.reshape(len(codes), -1), axis=-1, bitorder="little").view("<u4")
