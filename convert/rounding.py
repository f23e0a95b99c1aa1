"""How far rounding may take a number: the worst case of each dtype, from its rule alone.

Nothing here looks at what was written, so what was written can be held to it. Floats round to
nearest. A block of 32 along a row shares a scale d, kept in f16, and d has a rounding of its
own, which a code multiplies:

    q8_0   d = max|x| / 127, codes -127 ... 127      |error| <= d/2 + |code| * |error of d|
    q4_0   d = m / -8 for the x = m that is largest by magnitude, codes -8 ... 7. Toward m
           there is a code for everything, away from it 7 is the last: what lies at 7.5 d to
           8 d from zero there is off by up to a whole d, and by |x| - 7 d in any case.
"""

from __future__ import annotations

import numpy as np

from paw_mlx.adapter import BLOCKS

_FLOATS = {"f16": (11, 2**-25), "bf16": (8, 2**-134)}  # bits, half a step near zero
_STEPS = {"q8_0": 127, "q4_0": 8}  # steps from zero to the largest element of a block
_ARITHMETIC = 1 + 2**-12  # the rules themselves are computed in float32
_TIE = 1 - 2**-12


def rounding_error(values: np.ndarray, dtype: str) -> np.ndarray:
    """Return how much, at most, writing float32 values (rows, columns) as `dtype` may change
    each of them."""
    if dtype == "f32":
        return np.zeros_like(values)
    if dtype in _FLOATS:
        bits, near_zero = _FLOATS[dtype]
        exponents = np.frexp(values * _ARITHMETIC)[1]
        return np.maximum(np.ldexp(1.0, exponents - bits - 1), near_zero)
    blocks = values.reshape(-1, BLOCKS[dtype][0])
    sizes = np.abs(blocks)
    d = sizes.max(axis=1, keepdims=True) / _STEPS[dtype]
    steps = np.divide(sizes, d, out=np.zeros_like(sizes), where=d > 0)
    off = np.full_like(sizes, 0.5)
    if dtype == "q4_0":
        np.maximum(off, steps - 7, out=off, where=_clipped(blocks))
    of_d = np.maximum(d * 2**-11, 2**-25)
    error = (d * off + (steps + 0.5) * of_d) * _ARITHMETIC
    return np.where(d > 0, error, 0).reshape(values.shape)


def _clipped(blocks: np.ndarray) -> np.ndarray:
    """Mark the elements whose sign is not the one of their block's largest; at a tie, all."""
    top, low = blocks.max(axis=1, keepdims=True), -blocks.min(axis=1, keepdims=True)
    return np.where(blocks > 0, low >= top * _TIE, top >= low * _TIE)
