"""Where MLX computes. Whatever imports `mlx.core` imports this first.

On Linux an optimized BLAS has to be loaded before MLX is (`blas.py`); after that the device is
the one that PAW_MLX_DEVICE names, or MLX's own choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import blas

blas.load()  # before the next line

import mlx.core as mx  # noqa: E402

from . import settings  # noqa: E402
from .errors import OptionError  # noqa: E402

_assumed = False  # whether a GPU is taken for granted, in every thread


def on_gpu() -> bool:
    """Return whether MLX computes on a GPU, or is assumed to."""
    return _assumed or mx.default_device() == mx.Device(mx.gpu)


@contextmanager
def assume_gpu() -> Iterator[None]:
    """Choose what a GPU would be given, in all threads: for tests, and for counting kernels.

    Only choices change (packed weights, types, compiled chains); MLX computes where it did.
    """
    global _assumed
    before, _assumed = _assumed, True
    try:
        yield
    finally:
        _assumed = before


def _choose() -> None:
    if device := settings.device():
        try:
            mx.set_default_device(mx.Device(getattr(mx, device)))
        except ValueError as error:
            raise OptionError(f"PAW_MLX_DEVICE is {device}: {error}") from error


_choose()
