"""The mapper: the compiler's hidden states become a LoRA. All of it float32.

One vector steers everything: the states are averaged over layers and tokens.

    hidden        (..., L, P, H)     the last layer is taken after the final norm
    pooled        (..., H)
    trunk         GELU(W h + b), the exact one                        (..., T)
    coefficients  (..., L, M, N, 2)  modules in sorted order; the last axis is (A, B)
    A = sum_n c[n] * A_bases[n]      (..., L, r, d_in);   B likewise (..., L, d_out, r)

The formulas stand here, once, and are differentiable. `StreamedMapper` reads the arrays one at a
time, to compile; training holds them all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import mlx.core as mx

from ..formats.checkpoint import MapperSizes

HEAD = ("trunk.0.weight", "trunk.0.bias", "coeff_head.weight", "coeff_head.bias")


def pool(hidden: mx.array) -> mx.array:
    """Average states (..., L, P, H) over layers and tokens: (..., H)."""
    return hidden.mean(axis=-3).mean(axis=-2)


def coefficients(pooled: mx.array, head: Sequence[mx.array], sizes: MapperSizes) -> mx.array:
    """Compute coefficients (..., L, M, N, 2) from pooled states (..., H) and the arrays `HEAD`."""
    weight, bias, head_weight, head_bias = head
    trunk = pooled @ weight.T + bias  # (..., T)
    trunk = trunk * (1 + mx.erf(trunk / math.sqrt(2))) / 2  # GELU
    return mx.unflatten(trunk @ head_weight.T + head_bias, -1, sizes.coefficients)


def mix(coefficients: mx.array, bases: mx.array) -> mx.array:
    """Mix bases (N, rows, columns) by coefficients (..., N) into matrices (..., rows, columns)."""
    mixed = coefficients @ bases.reshape(bases.shape[0], -1)
    return mx.unflatten(mixed, -1, bases.shape[1:])


def make_pairs(
    arrays: Mapping[str, mx.array], pooled: mx.array | None, sizes: MapperSizes
) -> dict[str, tuple[mx.array, mx.array]]:
    """Map pooled states (..., H) to each module's A (..., L, r, d_in) and B (..., L, d_out, r).

    `arrays` are a mapper's, by their names. Without states the coefficients are their bias: what
    every spec has in common.
    """
    weight, bias, head_weight, head_bias = (arrays[name] for name in HEAD)
    if pooled is None:
        found = head_bias.reshape(sizes.coefficients)
    else:
        found = coefficients(pooled, (weight, bias, head_weight, head_bias), sizes)
    return {
        module: (
            mix(found[..., i, :, 0], arrays[f"A_bases_{module}"]),
            mix(found[..., i, :, 1], arrays[f"B_bases_{module}"]),
        )
        for i, module in enumerate(sizes.modules)
    }
