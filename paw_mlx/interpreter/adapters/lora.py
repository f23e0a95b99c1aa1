"""Adapters beside the base, unfused and differentiable: y = Wx + B(Ax), for every part.

For training and for comparing; programs run in the forms of `hot.py` and `slots.py`. MLX
multiplies rows, so A is transposed to (d_in, r) and B, scale folded in, to (r, d_out).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate

import mlx.core as mx

from ...adapter import Adapter, Matrix, Site
from ...formats import mlx_q4
from .parallel import Parallel, base_product

# (d_in, r) and (r, d_out); or (B, d_in, r) and (B, r, d_out), a pair for each row of x.
Pair = tuple[mx.array, mx.array]


class PairForm:
    """A form: each part of a group with the pair attached to it, or none."""

    def __init__(self, group: Parallel, pairs: Sequence[Pair | None]) -> None:
        self._stacks, self._pairs = group.stacks, pairs
        self._ends = list(accumulate(group.d_outs))

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, d_in) -> (B, T, sum of d_outs)."""
        ys = list(mx.split(base_product(self._stacks, x), self._ends[:-1], axis=-1))
        for i, pair in enumerate(self._pairs):
            if pair:
                ys[i] = mx.addmm(ys[i], x @ pair[0], pair[1])
        return mx.concatenate(ys, axis=-1)


def pairs(adapter: Adapter, dtype: mx.Dtype) -> dict[Site, Pair]:
    """Return an adapter's matrices for `attach`, cast to `dtype` after scaling in float32."""
    return {
        site: (
            decode(lora.A).T.astype(dtype),
            (lora.scale * decode(lora.B)).T.astype(dtype),
        )
        for site, lora in adapter.sites.items()
    }


def decode(matrix: Matrix) -> mx.array:
    """Return a matrix as float32 (rows, columns); q4_0 is decoded on the device."""
    if matrix.dtype != "q4_0":
        return mx.array(matrix.dense())
    codes, scales = mx.array(mlx_q4.codes(matrix)), mx.array(mlx_q4.scales(matrix))
    scales = scales.astype(mx.float32)
    return mx.dequantize(codes, scales, -8 * scales, group_size=32, bits=4)


def attach(groups: Iterable[Parallel], adapter: Mapping[Site, Pair]) -> None:
    """Make `adapter` the only one attached; sites it does not name carry none.

    An empty one lets every group run bare.
    """
    for group in groups:
        held = [adapter.get(site) for site in group.sites]
        group.form = PairForm(group, held) if any(held) else None


@contextmanager
def bare_afterwards(groups: Iterable[Parallel]) -> Iterator[None]:
    """Leave nothing attached after the block, also where it fails."""
    try:
        yield
    finally:
        attach(groups, {})
