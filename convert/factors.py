"""A site's delta as two small factors, and what can be told of it without holding it whole.

    A   (r, d_in)     B   (d_out, r), the scale in it     delta = B @ A   (d_out, d_in)

A difference of deltas is again two factors, made of the factors' own differences: what is
equal cancels before anything is multiplied, so zero is zero, and small is not lost in rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from paw_mlx.adapter import Lora

U = 2**-24  # float32's relative half step
_CHUNK = 1 << 22  # elements of a product held at once; small ones make BLAS threads wait


class Factors(NamedTuple):
    """A and scale * B, in float64."""

    A: np.ndarray
    B: np.ndarray

    @classmethod
    def of(cls, lora: Lora) -> Factors:
        """Return those of a site, its scale in float32, as everything that runs it has it."""
        scale = float(np.float32(lora.scale))
        return cls(lora.A.dense().astype(np.float64), scale * lora.B.dense().astype(np.float64))

    @classmethod
    def nothing(cls, like: Lora) -> Factors:
        """Return those of a site that is not there."""
        d_in, d_out = like.shape
        return cls(np.zeros((0, d_in)), np.zeros((d_out, 0)))

    def to_rank(self, rank: int) -> Factors:
        """Return the same delta with a larger rank: zeros are added."""
        more = rank - len(self.A)
        return Factors(np.pad(self.A, [(0, more), (0, 0)]), np.pad(self.B, [(0, 0), (0, more)]))

    def abs(self) -> Factors:
        return Factors(np.abs(self.A), np.abs(self.B))

    def is_finite(self) -> bool:
        return bool(np.isfinite(self.A).all() and np.isfinite(self.B).all())

    def largest(self) -> float:
        """Return the largest element of the delta by magnitude, multiplied in float32."""
        peaks = [max(part.max(), -part.min()) for part in self._products()]
        peak = float(np.max(peaks))
        return math.inf if math.isnan(peak) else peak

    def norm(self) -> float:
        """Return the Frobenius norm of the delta: sqrt(trace(B'B AA'))."""
        return math.sqrt(max(float(np.sum((self.B.T @ self.B) * (self.A @ self.A.T))), 0.0))

    def noise(self) -> float:
        """Return the relative error of a product of this rank in float32, casts included."""
        return (len(self.A) + 4) * U

    def is_noise(self) -> bool:
        """Return whether float32 cannot tell the delta from zero."""
        pairs = zip(self._products(), self.abs()._products(), strict=True)
        return all((np.abs(off) <= self.noise() * size).all() for off, size in pairs)

    def _products(self) -> Iterator[np.ndarray]:
        """Yield the delta in float32, some rows at a time."""
        A, B = self.A.astype(np.float32), self.B.astype(np.float32)
        rows = max(_CHUNK // A.shape[1], 1)
        for start in range(0, len(B), rows):
            yield B[start : start + rows] @ A


def pad(one: Factors, other: Factors) -> tuple[Factors, Factors]:
    """Give both the rank of the larger, zeros added."""
    rank = max(len(one.A), len(other.A))
    return one.to_rank(rank), other.to_rank(rank)


def difference(one: Factors, other: Factors) -> Factors:
    """Return other - one, of equal rank: B2 A2 - B1 A1 = [B2 - B1, B1] @ [A2; A2 - A1]."""
    (A1, B1), (A2, B2) = one, other
    return Factors(np.vstack([A2, A2 - A1]), np.hstack([B2 - B1, B1]))


def is_zero(change: Factors) -> bool:
    """Return whether a `difference` vanishes, product by product."""
    rank = len(change.A) // 2
    return all(
        not change.B[:, half].any() or not change.A[half].any()
        for half in (slice(rank), slice(rank, None))
    )
