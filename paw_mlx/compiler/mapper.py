"""The mapper: the compiler's hidden states become a LoRA. All of it float32.

One vector steers everything: the states are averaged over layers and prefix tokens.

    hidden        (L, P, H)     float32; the last layer is taken after the final norm
    trunk         GELU(W h + b), the exact one           (H,)
    coefficients  (L, M, N, 2)  modules in sorted order; the last axis is (A, B)
    A = sum_n c[n] * A_bases[n]   (r, d_in);   B likewise (d_out, r)

The bases take more memory than all else here, so they are read and used one at a time. On
the CPU: a GPU's float32 products may be rounded to fewer bits, and nothing is gained.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from ..adapter import Adapter, Lora, Matrix, Site
from ..convert.upstream import check_mapper
from ..errors import AdapterMismatch, FormatError, listed
from ..formats.checkpoint import MAPPER, CompilerMeta
from ..formats.tensors import safetensors_index
from ..profiles import Profile

_HEAD = ("trunk.0.weight", "trunk.0.bias", "coeff_head.weight", "coeff_head.bias")


class Mapper:
    """A converted compiler's mapper. Holds no weights between calls.

    `modules` maps a module to (d_in, d_out); `num_layers` is the interpreter's.
    FormatError if the shapes in the file do not fit each other or meta.json.
    """

    def __init__(self, compiler: Path) -> None:
        self._file, self._meta = compiler / MAPPER, CompilerMeta.read(compiler)
        slots = safetensors_index(self._file)
        self._shapes = {name: slot.shape for name, slot in slots.items()}
        if odd := [name for name, slot in slots.items() if slot.dtype != "F32"]:
            raise FormatError(f"{len(odd)} tensors of the mapper are not float32: {listed(odd)}")
        self.modules = check_mapper(self._shapes, self._meta.record)
        per_layer = len(self.modules) * self._meta.num_bases * 2
        self.num_layers = self._shapes["coeff_head.bias"][0] // per_layer
        self.hidden_size = self._shapes["trunk.0.bias"][0]

    def check(self, profile: Profile) -> None:
        """AdapterMismatch unless what this mapper makes fits the interpreter `profile`."""
        if self.num_layers == profile.num_layers and self.modules == dict(profile.shapes):
            return
        raise AdapterMismatch(
            f"the compiler writes for {self.num_layers} layers of {listed(list(self.modules))}, "
            f"and {profile.name} has {profile.num_layers} of {listed(list(profile.shapes))}, or "
            "of other sizes",
            hint=f"It was made for {self._meta.interpreter}.",
        )

    def coefficients(self, hidden: np.ndarray) -> mx.array:
        """Hidden states (L, P, H) -> coefficients (L, M, N, 2)."""
        with mx.stream(mx.cpu):
            weight, bias, head, head_bias = (self._read(name) for name in _HEAD)
            pooled = mx.array(hidden).mean(axis=0).mean(axis=0)
            found = head @ nn.gelu(weight @ pooled + bias) + head_bias
            found = found.reshape(self.num_layers, len(self.modules), self._meta.num_bases, 2)
            mx.eval(found)
        return found

    def adapter(self, hidden: np.ndarray) -> Adapter:
        """Hidden states (L, P, H) -> a LoRA on every site, in float32.

        FormatError if it is not finite.
        """
        coefficients = self.coefficients(hidden)
        sites: dict[Site, Lora] = {}
        for index, module in enumerate(self.modules):
            A = self._mixed(f"A_bases_{module}", coefficients[:, index, :, 0])
            B = self._mixed(f"B_bases_{module}", coefficients[:, index, :, 1])
            for layer in range(self.num_layers):
                pair = Matrix.from_array(A[layer]), Matrix.from_array(B[layer])
                sites[Site(layer, module)] = Lora(*pair, self._meta.alpha)
        mx.clear_cache()
        adapter = Adapter(sites)
        adapter.check_finite()
        return adapter

    def _mixed(self, name: str, coefficients: mx.array) -> np.ndarray:
        """Coefficients (L, N) and bases (N, rows, columns) -> (L, rows, columns)."""
        with mx.stream(mx.cpu):
            bases = self._read(name)
            mixed = coefficients @ bases.reshape(bases.shape[0], -1)
            return np.array(mixed).reshape(-1, *bases.shape[1:])

    def _read(self, name: str) -> mx.array:
        try:
            tensor = cast(dict[str, mx.array], mx.load(str(self._file)))[name]
            mx.eval(tensor)
        except RuntimeError as error:
            raise FormatError(f"{self._file} is damaged: {error}") from error
        return tensor
