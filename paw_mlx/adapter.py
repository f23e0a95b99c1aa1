"""The canonical LoRA: what every layout is read into and written from.

One orientation, the paper's, PEFT's and GGUF's; y += scale * B(Ax):

    A       (r, d_in)        B       (d_out, r)
    delta   (d_out, d_in)    scale * B @ A
    r       the rank of the site; scale = alpha / r

A matrix stays as its file stored it (f32 ... q4_0): copying one layout to another of the
same dtype is exact, and nothing is decoded before someone asks for numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from .errors import AdapterMismatch, FormatError, listed

# dtype -> (elements in a block, bytes in a block); blocks run along a row.
BLOCKS = {"f32": (1, 4), "f16": (1, 2), "bf16": (1, 2), "q8_0": (32, 34), "q4_0": (32, 18)}
_RANK_LET_BE = 256  # of whatever site; above it, no more than the larger of its sizes


class Site(NamedTuple):
    """Where a LoRA sits: one linear module of one layer."""

    layer: int
    module: str

    def __str__(self) -> str:
        return f"{self.layer}.{self.module}"


def row_bytes(dtype: str, columns: int) -> int:
    """Return the bytes that a row of elements takes; FormatError if blocks do not fit."""
    elements, size = BLOCKS[dtype]
    if columns % elements:
        raise FormatError(f"{dtype} stores blocks of {elements}, and a row has {columns} elements")
    return columns // elements * size


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix as stored: `data` is uint8 (rows, bytes of a row), often a view of a file."""

    dtype: str
    shape: tuple[int, int]
    data: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        expected = (self.shape[0], row_bytes(self.dtype, self.shape[1]))
        if self.data.dtype != np.uint8 or self.data.shape != expected:
            raise FormatError(
                f"a {self.dtype} matrix of shape {self.shape} takes {expected} bytes, "
                f"not {self.data.shape}"
            )

    @classmethod
    def from_array(cls, array: np.ndarray) -> Matrix:
        """Wrap a 2-D float32 or float16 array."""
        dtype = {"float32": "f32", "float16": "f16"}[array.dtype.name]
        rows = np.ascontiguousarray(array)
        return cls(dtype, (rows.shape[0], rows.shape[1]), rows.view(np.uint8))

    @property
    def nbytes(self) -> int:
        return self.data.nbytes

    def take_rows(self, index: np.ndarray) -> Matrix:
        """Return the rows in another order, still as stored."""
        return Matrix(self.dtype, (len(index), self.shape[1]), self.data[index])

    def dense(self) -> np.ndarray:
        """Decode to float32 (rows, columns)."""
        if self.dtype == "f32":
            return self._as("<f4").astype(np.float32)
        if self.dtype == "f16":
            return self._as("<f2").astype(np.float32)
        if self.dtype == "bf16":
            return (self._as("<u2").astype(np.uint32) << 16).view(np.float32)
        blocks = self.data.reshape(-1, BLOCKS[self.dtype][1])
        codes = blocks[:, 2:]
        if self.dtype == "q8_0":
            values = codes.view(np.int8).astype(np.float32)
        else:  # q4_0: the low nibbles are elements 0-15, the high ones 16-31
            values = np.hstack([codes & 15, codes >> 4]).astype(np.float32) - 8
        return (values * self._block_scales()).reshape(self.shape)

    def is_finite(self) -> bool:
        """Return whether no element is NaN or infinite; of quantized blocks only scales can be."""
        if self.dtype in ("f32", "f16", "bf16"):
            return bool(np.isfinite(self.dense()).all())
        return bool(np.isfinite(self._block_scales()).all())

    def _as(self, dtype: str) -> np.ndarray:
        return np.ascontiguousarray(self.data).view(dtype)

    def _block_scales(self) -> np.ndarray:
        blocks = self.data.reshape(-1, BLOCKS[self.dtype][1])
        return np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)


@dataclass(frozen=True, eq=False)
class Lora:
    """A and B of one site, and the alpha that scales them."""

    A: Matrix  # (r, d_in)
    B: Matrix  # (d_out, r)
    alpha: float

    @property
    def rank(self) -> int:
        return self.A.shape[0]

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def shape(self) -> tuple[int, int]:
        """(d_in, d_out) of the linear module it belongs to."""
        return self.A.shape[1], self.B.shape[0]


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA for a whole base.

    Raises AdapterMismatch if A and B of a site do not fit, or its rank is above 256, d_in
    and d_out: zeros pack well, and a file of 500 KB may hold a rank of millions.
    """

    sites: Mapping[Site, Lora]

    def __post_init__(self) -> None:
        if not self.sites:
            raise AdapterMismatch("the adapter has no A and B at all")
        wrong = [
            f"{site}: A {lora.A.shape}, B {lora.B.shape}"
            for site, lora in sorted(self.sites.items())
            if lora.A.shape[0] != lora.B.shape[1] or lora.rank == 0
        ]
        if wrong:
            raise AdapterMismatch(
                f"the ranks of A and B differ at {len(wrong)} sites: {listed(wrong)}"
            )
        wide = [
            f"{site}: rank {lora.rank:,} of {lora.shape[0]:,} inputs and {lora.shape[1]:,} outputs"
            for site, lora in sorted(self.sites.items())
            if lora.rank > max(_RANK_LET_BE, *lora.shape)
        ]
        if wide:
            raise AdapterMismatch(f"no low rank at {len(wide)} sites: {listed(wide)}")

    def __repr__(self) -> str:
        numbers = {"rank": self.ranks, "alpha": self.alphas, "dtype": self.dtypes}
        told = ", ".join(f"{name} {listed(values)}" for name, values in numbers.items())
        layers = f"layers {self.layers[0]} to {self.layers[-1]}"
        return f"<Adapter: {len(self.sites)} sites in {layers}, {told}>"

    @cached_property
    def ranks(self) -> tuple[int, ...]:
        """The ranks in use, ascending; usually one."""
        return tuple(sorted({lora.rank for lora in self.sites.values()}))

    @property
    def alphas(self) -> tuple[float, ...]:
        """The alphas in use, ascending; usually one."""
        return tuple(sorted({lora.alpha for lora in self.sites.values()}))

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales in use, ascending; usually one."""
        return tuple(sorted({lora.scale for lora in self.sites.values()}))

    @cached_property
    def dtypes(self) -> tuple[str, ...]:
        used = {m.dtype for lora in self.sites.values() for m in (lora.A, lora.B)}
        return tuple(sorted(used))

    @property
    def nbytes(self) -> int:
        return sum(lora.A.nbytes + lora.B.nbytes for lora in self.sites.values())

    @property
    def num_parameters(self) -> int:
        return sum(
            m.shape[0] * m.shape[1] for lora in self.sites.values() for m in (lora.A, lora.B)
        )

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted({site.layer for site in self.sites}))

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(sorted({site.module for site in self.sites}))

    def delta(self, site: Site) -> np.ndarray:
        """Return what the adapter adds to a weight: float32 (d_out, d_in)."""
        lora = self.sites[site]
        return np.float32(lora.scale) * (lora.B.dense() @ lora.A.dense())

    def check_finite(self) -> None:
        """Raise FormatError, listing every site that holds a NaN or an infinity."""
        if bad := self._not_finite:
            raise FormatError(f"{len(bad)} sites hold NaN or infinite weights: {listed(bad)}")

    @cached_property
    def _not_finite(self) -> list[str]:
        # Kept: whoever makes, saves and converts an adapter asks each time.
        return [
            str(site)
            for site, lora in sorted(self.sites.items())
            if not (lora.A.is_finite() and lora.B.is_finite() and np.isfinite(lora.alpha))
        ]


def missing_sites(sites: Iterable[Site]) -> list[Site]:
    """Return the gaps: every module found is expected in every layer from first to last."""
    found = set(sites)
    layers = {site.layer for site in found}
    modules = sorted({site.module for site in found})
    span = range(min(layers), max(layers) + 1)
    return [Site(i, m) for i in span for m in modules if Site(i, m) not in found]
