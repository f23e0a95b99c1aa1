"""Chains of elementwise arithmetic, each one kernel on a GPU.

Without a GPU they stay plain: there MLX would call a C++ compiler while the program runs.

    x       (..., T, D)              one head's vectors, the two halves of D rotated together
    turns   2 x (..., T, 2, D / 2)   what the first and the second half are multiplied by
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

import mlx.core as mx
import numpy as np

from ...device import on_gpu

Turns = tuple[mx.array, mx.array]


def one_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of arrays, for any shapes, wherever there is a GPU.

    Each thread has its own, which ends with it. MLX keeps what it compiles by thread, and lets go
    of it when the system ends the thread: by then Python may be gone, and the process aborts.
    """
    own = threading.local()

    @wraps(function)
    def call(*arrays: mx.array) -> Any:
        if not on_gpu():
            return function(*arrays)
        if not hasattr(own, "compiled"):
            own.compiled = mx.compile(function, shapeless=True)
        return own.compiled(*arrays)

    return call


@one_kernel
def swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """Return silu(gate) * up."""
    return gate * mx.sigmoid(gate) * up


@one_kernel
def gelu(x: mx.array) -> mx.array:
    """Return GELU by its tanh, as GPT-2 has it."""
    return 0.5 * x * (1 + mx.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class Rotation:
    """Rotary positions for heads of D dimensions: tables once a forward, for every layer."""

    def __init__(self, dim: int, theta: float) -> None:
        self._frequencies = mx.array((theta ** -(np.arange(dim // 2) / (dim // 2))).astype("f4"))

    def turns(self, positions: mx.array) -> Turns:
        """Return the tables for positions (T,) or (B, T), to go with heads (B, ., ., T, D)."""
        if positions.ndim == 2:
            positions = positions[:, None, None]  # (B, 1, 1, T)
        return _tables(positions[..., None, None], self._frequencies, _FIRST)  # (..., 2, D / 2)


def halves(x: mx.array) -> tuple[mx.array, mx.array]:
    """Return the first and second half of the last axis, (..., 1, D / 2) each, as views."""
    x = x.reshape(*x.shape[:-1], 2, -1)  # (..., 2, D / 2)
    return x[..., :1, :], x[..., 1:, :]


def rotate(x: mx.array, turns: Turns, weights: tuple[mx.array, mx.array] | None = None) -> mx.array:
    """Rotate x (B, ., ., T, D), multiplied by weights before where there are any (`halves`)."""
    if weights is None:
        turned = _turn(*halves(x), *turns)
    else:
        turned = _scale_and_turn(*halves(x), *turns, *weights)
    return turned.reshape(x.shape)  # (..., 2, D / 2) -> (..., D)


_FIRST = mx.array([[True], [False]])  # (2, 1)


@one_kernel
def _tables(positions: mx.array, frequencies: mx.array, first: mx.array) -> Turns:
    """Return what x's halves a and b are multiplied by: rotated they are ac - bs and bc + as."""
    angles = positions.astype(mx.float32) * frequencies
    cos, sin = mx.cos(angles), mx.sin(angles)
    return mx.where(first, cos, sin), mx.where(first, -sin, cos)


@one_kernel
def _turn(a: mx.array, b: mx.array, first: mx.array, second: mx.array) -> mx.array:
    return (a * first + b * second).astype(a.dtype)


@one_kernel
def _scale_and_turn(
    a: mx.array, b: mx.array, first: mx.array, second: mx.array, w_a: mx.array, w_b: mx.array
) -> mx.array:
    return (a * (first * w_a) + b * (second * w_b)).astype(a.dtype)
