"""Where MLX computes. Whatever imports `mlx.core` imports this first.

On Linux an optimized BLAS has to be loaded before MLX is (`blas.py`); after that the device is
the one that PAW_MLX_DEVICE names, or MLX's own choice.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import finalize

from . import blas, settings

blas.load()  # before mlx.core, as the next line
settings.keep_float32()

import mlx.core as mx  # noqa: E402

from .errors import ClosedError, OptionError  # noqa: E402

_assumed = False  # whether a GPU is taken for granted, in every thread
_computing: int | None = None  # the process that computes
_lingers = False  # whether a thread computed that may end before the process does
_LINGER_S = 0.1


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
    mx.enable_compile()
    try:
        yield
    finally:
        _assumed = before
        _compile_on_gpu_alone()


def claim() -> None:
    """Make this the process that computes.

    ClosedError in a child forked from one that does: MLX's threads stay behind, and it would
    wait for them for ever.
    """
    global _computing, _lingers
    if is_forked():
        raise ClosedError(
            "this process was forked from one that had loaded a base, and cannot compute",
            hint='Start processes with "spawn" (`multiprocessing.get_context("spawn")`), or load '
            "bases in the child alone.",
        )
    _computing = os.getpid()
    _lingers |= threading.current_thread() is not threading.main_thread()


def is_forked() -> bool:
    """Return whether this process was forked from one that computes."""
    return _computing not in (None, os.getpid())


def name() -> str:
    """Return where MLX computes: `gpu` or `cpu`."""
    return mx.default_device().type.name


def active_bytes() -> int:
    """Return how much memory MLX's arrays take in this process."""
    return mx.get_active_memory()


def wire_memory() -> None:
    """Let Metal keep what is in use in memory, up to what the GPU recommends, as mlx-lm does.

    Without it macOS may page weights out between two calls. Elsewhere nothing happens.
    """
    if mx.metal.is_available() and mx.default_device() == mx.Device(mx.gpu):
        mx.set_wired_limit(int(mx.device_info()["max_recommended_working_set_size"]))


def _linger() -> None:
    """Wait a moment, at exit, after the last thread has ended.

    MLX keeps `mx.random`'s state by thread, and takes Python's lock to drop it when the system ends
    the thread, a moment after Python did: without a Python by then, the process aborts.
    """
    if _lingers:
        time.sleep(_LINGER_S)


def _compile_on_gpu_alone() -> None:
    """Have MLX compile nothing for a CPU: it would call a C++ compiler while a program runs.

    What that writes among temporary files a full disk refuses, and a kill leaves half, for good.
    """
    if not on_gpu():
        mx.disable_compile()


def _choose() -> None:
    if device := settings.device():
        try:
            mx.set_default_device(mx.Device(getattr(mx, device)))
        except ValueError as error:
            raise OptionError(f"PAW_MLX_DEVICE is {device}: {error}") from error
    _compile_on_gpu_alone()


_choose()
finalize(claim, _linger)  # which are called in turn, those of threads and interpreters before
