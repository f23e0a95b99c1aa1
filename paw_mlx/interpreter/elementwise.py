"""Chains of elementwise arithmetic, each one kernel on a GPU.

Without a GPU they stay plain: there MLX would call a C++ compiler while the program runs.

    x       (..., T, D)              one head's vectors, the two halves of D rotated together
    turns   2 x (..., T, 2, D / 2)   what the first and the second half are multiplied by
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import mlx.core as mx
import numpy as np

Turns = tuple[mx.array, mx.array]


def on_gpu() -> bool:
    """Whether MLX computes on a GPU."""
    return mx.default_device() == mx.Device(mx.gpu)


def one_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of arrays, for any shapes, wherever there is a GPU."""
    compiled = mx.compile(function, shapeless=True)

    @wraps(function)
    def call(*arrays: mx.array) -> Any:
        return (compiled if on_gpu() else function)(*arrays)

    return call


@one_kernel
def swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """silu(gate) * up."""
    return gate * mx.sigmoid(gate) * up


class Rotation:
    """Rotary positions for heads of D dimensions: tables once a forward, for every layer."""

    def __init__(self, dim: int, theta: float) -> None:
        self._frequencies = mx.array((theta ** -(np.arange(dim // 2) / (dim // 2))).astype("f4"))

    def turns(self, positions: mx.array) -> Turns:
        """The tables for positions (T,) or (B, T), to go with heads (B, ., ., T, D)."""
        if positions.ndim == 2:
            positions = positions[:, None, None]
        return _tables(positions[..., None, None], self._frequencies, _FIRST)


def halves(x: mx.array) -> tuple[mx.array, mx.array]:
    """The first and the second half of the last axis, (..., 1, D / 2) each, as views."""
    x = x.reshape(*x.shape[:-1], 2, -1)
    return x[..., :1, :], x[..., 1:, :]


def rotated(
    x: mx.array, turns: Turns, weights: tuple[mx.array, mx.array] | None = None
) -> mx.array:
    """Rotate x (B, ., ., T, D), multiplied by weights before where there are any (`halves`)."""
    turned = (
        _turned(*halves(x), *turns) if weights is None else _scaled(*halves(x), *turns, *weights)
    )
    return turned.reshape(x.shape)


_FIRST = mx.array([[True], [False]])  # (2, 1)


@one_kernel
def _tables(positions: mx.array, frequencies: mx.array, first: mx.array) -> Turns:
    angles = positions.astype(mx.float32) * frequencies
    cos, sin = mx.cos(angles), mx.sin(angles)
    return mx.where(first, cos, sin), mx.where(first, -sin, cos)


@one_kernel
def _turned(a: mx.array, b: mx.array, first: mx.array, second: mx.array) -> mx.array:
    return (a * first + b * second).astype(a.dtype)


@one_kernel
def _scaled(
    a: mx.array, b: mx.array, first: mx.array, second: mx.array, w_a: mx.array, w_b: mx.array
) -> mx.array:
    return (a * (first * w_a) + b * (second * w_b)).astype(a.dtype)
