"""A converted compiler's mapper, read as it is used.

The bases take more memory than all else here, so they are read and used one at a time. On
the CPU: a GPU's float32 products may be rounded to fewer bits, and nothing is gained.
"""

from __future__ import annotations

from typing import cast

import mlx.core as mx
import numpy as np

from ..adapter import Adapter, Lora, Matrix, Site
from ..errors import AdapterMismatch, FormatError, listed
from ..formats.checkpoint import MAPPER, Checkpoint, check_mapper
from ..formats.tensors import safetensors_index
from ..profiles import Profile
from .mapper import HEAD, coefficients, mix, pool


class StreamedMapper:
    """A mapper on disk. Holds no weights between calls.

    `sizes` are what it was made for. FormatError if the shapes in the file do not fit each
    other or meta.json.
    """

    def __init__(self, compiler: Checkpoint) -> None:
        self._file, self._compiler = compiler.folder / MAPPER, compiler
        slots = safetensors_index(self._file)
        if odd := [name for name, slot in slots.items() if slot.dtype not in ("F32", "F16")]:
            raise FormatError(
                f"{len(odd)} tensors of the mapper are not float32 or float16: {listed(odd)}"
            )
        shapes = {name: slot.shape for name, slot in slots.items()}
        self.sizes = check_mapper(shapes, compiler.record)

    def check(self, profile: Profile) -> None:
        """Raise AdapterMismatch unless what this mapper makes fits the interpreter `profile`."""
        sizes = self.sizes
        if sizes.num_layers == profile.num_layers and sizes.modules == dict(profile.shapes):
            return
        raise AdapterMismatch(
            f"the compiler writes for {sizes.num_layers} layers of {listed(list(sizes.modules))}, "
            f"and {profile.name} has {profile.num_layers} of {listed(list(profile.shapes))}, or "
            "of other sizes",
            hint=f"It was made for {self._compiler.interpreter}.",
        )

    def adapter(self, hidden: np.ndarray) -> Adapter:
        """Make a LoRA on every site of hidden states (L, P, H), in float32.

        FormatError if it is not finite.
        """
        with mx.stream(mx.cpu):
            head = [self._read(name) for name in HEAD]
            found = coefficients(pool(mx.array(hidden)), head, self.sizes)
            mx.eval(found)
        del head
        sites: dict[Site, Lora] = {}
        for index, module in enumerate(self.sizes.modules):
            A = self._mix(f"A_bases_{module}", found[:, index, :, 0])
            B = self._mix(f"B_bases_{module}", found[:, index, :, 1])
            for layer in range(self.sizes.num_layers):
                pair = Matrix.from_array(A[layer]), Matrix.from_array(B[layer])
                sites[Site(layer, module)] = Lora(*pair, self._compiler.alpha)
        mx.clear_cache()
        adapter = Adapter(sites)
        adapter.check_finite()
        return adapter

    def _mix(self, name: str, chosen: mx.array) -> np.ndarray:
        """Mix the bases `name` by coefficients (L, N): (L, rows, columns)."""
        with mx.stream(mx.cpu):
            return np.array(mix(chosen, self._read(name)))

    def _read(self, name: str) -> mx.array:
        try:
            stored = cast(dict[str, mx.array], mx.load(str(self._file)))[name]
            tensor = stored.astype(mx.float32)
            mx.eval(tensor)
        except RuntimeError as error:
            raise FormatError(f"{self._file} is damaged: {error}") from error
        return tensor
