"""Linear layers that read the same x, as one product: q, k and v; gate and up; o; down.

    x        (B, T, d_in)
    base     (B, T, sum of d_outs)
    y        (B, T, chunks, width)   what a model gets; width divides every part's d_out

A model is built and filled with the layers its files name; `fuse` then puts a Parallel in
place of each group. Its *form* is what it computes: bare, or with the adapters of `lora.py`,
`hot.py` and `slots.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from math import gcd
from types import MappingProxyType
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn

from ...adapter import Site
from ...profiles import Profile
from ..base.packing import PARTS, Packing
from ..base.tensors import Tensors

Form = Callable[[mx.array], mx.array]
GROUP = 32  # the block of Q4_0, in which A's rows are packed


class Stack(nn.Module):
    """The rows of layers that are packed alike, in one buffer per tensor.

        weight (rows, d_in), or packed: codes, scales, biases (`base/packing.py`);  bias (rows,)

    More rows may be put below. The first time the buffers grow, which copies them once, and
    groups of 64 or 128 become groups of 32, the same numbers exactly: it costs 11 % more bytes
    in 4 bits and groups of 64. After that only the new rows are written.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        first = layers[0]
        for part in first:
            if isinstance(first[part], mx.array):
                tensors = [layer[part] for layer in layers]
                self[part] = tensors[0] if len(tensors) == 1 else mx.concatenate(tensors)
        self.num_rows = sum(layer.weight.shape[0] for layer in layers)
        self._packing = packing_of(first)
        self._views: dict[int, Tensors] = {}

    @property
    def packing(self) -> Packing | None:
        """How the rows are packed; None if they are dense."""
        return self._packing

    def __call__(self, x: mx.array, below: int = 0) -> mx.array:
        """Multiply by the layers' rows and as many `below`: (..., d_in) -> (..., rows + below)."""
        parts = self._take_first(self.num_rows + below)
        bias = parts.get("bias")
        if self._packing:
            codes, scales, biases = (parts[part] for part in PARTS)
            y = mx.quantized_matmul(x, codes, scales, biases, **self._packing)
            return y if bias is None else y + bias
        weight = parts["weight"].T
        return x @ weight if bias is None else mx.addmm(bias, x, weight)

    def put(self, parts: Tensors) -> None:
        """Write rows below, in groups of 32 if packed, lazily; those of before may be lost."""
        self._views.clear()  # a view would have the whole buffer copied
        start, end = self.num_rows, self.num_rows + len(parts["weight"])
        if self._packing and self._packing["group_size"] != GROUP:
            times = self._packing["group_size"] // GROUP
            for name in ("scales", "biases"):
                self[name] = mx.repeat(self[name], times, axis=1)
            self._packing = self._packing | {"group_size": GROUP}
        if len(self.weight) < end:
            self._grow(end)
        for name, rows in parts.items():
            self[name][start:end] = rows

    def _grow(self, end: int) -> None:
        for name in self.parameters():
            spare = mx.zeros((end - self.num_rows, *self[name].shape[1:]), self[name].dtype)
            self[name] = mx.concatenate([self[name][: self.num_rows], spare])

    def _take_first(self, num: int) -> Tensors:
        """Return the first rows of each tensor: views, kept, since making them takes time too."""
        if num == len(self.weight):
            return self
        if num not in self._views:
            self._views[num] = {name: t[:num] for name, t in self.parameters().items()}
            mx.eval(self._views[num])
        return self._views[num]


def packing_of(layer: nn.Module) -> Packing | None:
    """Return how a layer is packed; None if it is dense."""
    if isinstance(layer, nn.QuantizedLinear):
        return {"group_size": layer.group_size, "bits": layer.bits}
    return None


def base_product(stacks: Sequence[Stack], x: mx.array) -> mx.array:
    """Multiply by all rows of all stacks: (..., d_in) -> (..., rows)."""
    ys = [stack(x) for stack in stacks]
    return ys[0] if len(ys) == 1 else mx.concatenate(ys, axis=-1)


class Parallel(nn.Module):
    """Layers that read the same x, at `sites`; `form` None is the bare base.

    A form holds `stacks` and not the Parallel, or both would outlive the base they are of.
    `owner` names the part (the site's index) that each chunk of the output belongs to.
    """

    def __init__(self, sites: Sequence[Site], layers: Sequence[nn.Module], copied: bool) -> None:
        super().__init__()
        self.sites = tuple(sites)
        self.d_outs = tuple(layer.weight.shape[0] for layer in layers)
        self.width = gcd(*self.d_outs)
        self.chunks = sum(self.d_outs) // self.width
        self.owner = tuple(i for i, d in enumerate(self.d_outs) for _ in range(d // self.width))
        first, packing = layers[0], packing_of(layers[0])
        columns = first.weight.shape[1]
        self.d_in = columns * 32 // packing["bits"] if packing else columns
        self.dtype = first.scales.dtype if packing else first.weight.dtype
        alike = groupby(layers, key=lambda layer: (packing_of(layer), "bias" in layer))
        runs = [list(run) for _, run in alike] if copied else [[layer] for layer in layers]
        self.stacks = [Stack(run) for run in runs]
        self.form: Form | None = None

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, d_in) -> (B, T, chunks, width); (B, T, width) where there is one chunk only."""
        y = self.form(x) if self.form else base_product(self.stacks, x)
        rest = (self.width,) if self.chunks == 1 else (self.chunks, self.width)
        return y.reshape(*x.shape[:2], *rest)


def join(
    parent: nn.Module,
    layer: int,
    groups: Mapping[str, Sequence[str]],
    *,
    modules: Mapping[str, str] = MappingProxyType({}),
    copied: bool = True,
) -> list[Parallel]:
    """Replace `parent`'s layers by one Parallel for each of `groups`: its name, their names.

    `modules` says which sites' modules they are where the names differ. Unless `copied`, their
    weights stay apart where they are, which is better for layers that are used once.
    """
    made = []
    for name, members in groups.items():
        sites = [Site(layer, modules.get(member, member)) for member in members]
        made.append(Parallel(sites, [parent.pop(member) for member in members], copied))
        parent[name] = made[-1]
    return made


def fuse(model: Any, profile: Profile) -> list[Parallel]:
    """Fuse the groups of every layer in place, one layer at a time; return all, in order."""
    groups: list[Parallel] = []
    for i, block in enumerate(blocks_of(model, profile)):
        groups += block.fuse(i)
        mx.eval(block.parameters())
        mx.clear_cache()  # what was fused is gone, and its room must not be kept
    return groups


def blocks_of(model: Any, profile: Profile) -> list[Any]:
    """Return the list of a model's layers, the one that it calls them from."""
    found: Any = model
    for name in profile.family.layers.split("."):
        found = found[name]
    return cast(list[Any], found)
