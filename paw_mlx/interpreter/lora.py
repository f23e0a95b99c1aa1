"""Linear layers that carry an adapter, unfused: y = Wx + B(Ax).

Every site of a base is wrapped once; attaching a program assigns its matrices, detaching
clears them, and the base's weights are never touched. This is one of the two files that
transpose: MLX multiplies rows, so A is kept as (d_in, r) and B, scale folded in, as (r, d_out).
"""

from __future__ import annotations

from collections.abc import Mapping

import mlx.core as mx
import mlx.nn as nn

from ..adapter import Adapter, Site
from ..profiles import Profile

Pair = tuple[mx.array, mx.array]  # (d_in, r), (r, d_out)


class LoRALinear(nn.Module):
    """A linear layer, quantized or not, with room for one adapter."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self._pair: Pair | None = None

    def __call__(self, x: mx.array) -> mx.array:
        y = self.base(x)
        if self._pair is None:
            return y
        a, b = self._pair
        return mx.addmm(y, x @ a, b)

    def hold(self, pair: Pair | None) -> None:
        """Attach a pair, or detach with None."""
        self._pair = pair


def wrap_sites(model: object, profile: Profile) -> dict[Site, LoRALinear]:
    """Wrap the linear layer of every site of `profile` in place, and return them."""
    wrapped = {}
    for site in profile.sites():
        *path, name = profile.family.path(site).split(".")
        parent = model
        for part in path:
            parent = parent[int(part)] if isinstance(parent, list) else getattr(parent, part)
        layer = getattr(parent, name)
        wrapped[site] = layer if isinstance(layer, LoRALinear) else LoRALinear(layer)
        setattr(parent, name, wrapped[site])
    return wrapped


def pairs(adapter: Adapter, dtype: mx.Dtype) -> dict[Site, Pair]:
    """An adapter's matrices for `LoRALinear.hold`, cast to `dtype` after scaling in float32."""
    return {
        site: (
            mx.array(lora.A.dense()).T.astype(dtype),
            (lora.scale * mx.array(lora.B.dense())).T.astype(dtype),
        )
        for site, lora in adapter.sites.items()
    }


def attach(layers: Mapping[Site, LoRALinear], adapter: Mapping[Site, Pair]) -> None:
    """Make `adapter` the only one attached; sites it does not name carry none."""
    for site, layer in layers.items():
        layer.hold(adapter.get(site))
