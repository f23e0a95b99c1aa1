"""The mapper: the compiler's hidden states become a LoRA. All of it float32.

One vector steers everything: the states are averaged over layers and prefix tokens.

    hidden        (..., L, P, H)     the last layer is taken after the final norm
    trunk         GELU(W h + b), the exact one                        (..., H)
    coefficients  (..., L, M, N, 2)  modules in sorted order; the last axis is (A, B)
    A = sum_n c[n] * A_bases[n]      (..., L, r, d_in);   B likewise (..., L, d_out, r)

The formulas stand here, once. `Mapper` holds its arrays, to be trained; `StreamedMapper` reads
them one at a time, to compile.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from ..formats.checkpoint import MapperSizes

HEAD = ("trunk.0.weight", "trunk.0.bias", "coeff_head.weight", "coeff_head.bias")


def coefficients(hidden: mx.array, head: Sequence[mx.array], sizes: MapperSizes) -> mx.array:
    """Compute coefficients (..., L, M, N, 2) from states (..., L, P, H) and the arrays `HEAD`."""
    weight, bias, head_weight, head_bias = head
    pooled = hidden.mean(axis=-3).mean(axis=-2)  # (..., H)
    trunk = nn.gelu(pooled @ weight.T + bias)  # (..., H)
    return mx.unflatten(trunk @ head_weight.T + head_bias, -1, sizes.coefficients)


def mix(coefficients: mx.array, bases: mx.array) -> mx.array:
    """Mix bases (N, rows, columns) by coefficients (..., N) into matrices (..., rows, columns)."""
    mixed = coefficients @ bases.reshape(bases.shape[0], -1)
    return mx.unflatten(mixed, -1, bases.shape[1:])


class Mapper(nn.Module):
    """A mapper and its arrays, named as in its file; differentiable.

    New, it makes LoRAs that are nothing: the bases of B are zero. `load_weights` fills it from
    a converted compiler's `mapper.safetensors`.
    """

    def __init__(self, sizes: MapperSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.trunk = [nn.Linear(sizes.hidden_size, sizes.hidden_size)]
        self.coeff_head = nn.Linear(sizes.hidden_size, sizes.num_coefficients)
        for module, (d_in, d_out) in sizes.modules.items():
            shape = (sizes.num_bases, sizes.rank, d_in)
            self[f"A_bases_{module}"] = mx.random.uniform(-(d_in**-0.5), d_in**-0.5, shape)
            self[f"B_bases_{module}"] = mx.zeros((sizes.num_bases, d_out, sizes.rank))

    def __call__(self, hidden: mx.array) -> dict[str, tuple[mx.array, mx.array]]:
        """Map states (B, L, P, H) to each module's A (B, L, r, d_in) and B (B, L, d_out, r)."""
        (trunk,) = self.trunk
        head = (trunk.weight, trunk.bias, self.coeff_head.weight, self.coeff_head.bias)
        found = coefficients(hidden, head, self.sizes)
        return {
            module: (
                mix(found[..., i, :, 0], self[f"A_bases_{module}"]),
                mix(found[..., i, :, 1], self[f"B_bases_{module}"]),
            )
            for i, module in enumerate(self.sizes.modules)
        }
