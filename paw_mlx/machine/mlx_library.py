"""MLX as it is installed here, and the GPU that it sees."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from .. import blas, settings
from .versions import version_of, wheel_of

# What a GPU may use, as Metal recommends; else what it has, as CUDA says.
_GPU_BYTES = ("max_recommended_working_set_size", "memory_size", "total_memory")


@dataclass(frozen=True)
class Library:
    """MLX as it is installed: `problem` says why it cannot be imported.

    `wheel` is the platform tag; `device` where it computes, which may be a GPU that it does not
    see; `gpu` and `architecture` name the one it sees, and `gpu_bytes` is what that may use.
    """

    version: str | None = None
    wheel: str | None = None
    device: str = "cpu"
    gpu: str | None = None
    architecture: str | None = None
    gpu_bytes: int | None = None
    problem: str | None = None


@cache
def mlx() -> Library:
    """Return MLX as this process has it; imports it, after a BLAS.

    OptionError for a setting that names no BLAS or no device.
    """
    # The GPU's part of a wheel carries its own tag, and is what decides on matrix units.
    wheel = wheel_of("mlx-metal") or wheel_of("mlx")
    blas.load()
    chosen = settings.device()
    try:
        import mlx.core as mx

        told = mx.device_info(mx.gpu) if mx.device_count(mx.gpu) else {}
        device = chosen or mx.default_device().type.name
    except Exception as error:  # whatever a half-installed library raises
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return Library(version_of("mlx"), wheel, problem=lines[0])
    return Library(
        version=version_of("mlx"),
        wheel=wheel,
        device=device,
        gpu=str(told["device_name"]) if "device_name" in told else None,
        architecture=str(told["architecture"]) if "architecture" in told else None,
        gpu_bytes=gpu_bytes_of(told),
    )


def gpu_bytes_of(told: Mapping[str, Any]) -> int | None:
    """Return what a GPU may use, of what MLX tells of it; None if it tells nothing."""
    size = next((told[key] for key in _GPU_BYTES if told.get(key)), None)
    return int(size) if size else None


def matrix_units(architecture: str | None, os: str | None, wheel: str | None) -> list[str] | None:
    """Return what keeps MLX from a GPU's matrix units: [] if nothing, None if the GPU has none.

    They come with the M5 (generation 17; 18 in phones), and MLX takes them from macOS 26.2 on,
    in the wheel that is made for it.
    """
    gpu = re.fullmatch(r"applegpu_g(\d+)([a-z])", architecture or "")
    if gpu is None or int(gpu[1]) < (18 if gpu[2] == "p" else 17):
        return None
    lacking = []
    if _release(r"macOS (\d+)(?:\.(\d+))?", os) < (26, 2):
        lacking.append("macOS 26.2")
    if _release(r"macosx_(\d+)_(\d+)_", wheel) < (26, 0):
        lacking.append("MLX's wheel for macOS 26")
    return lacking


def _release(form: str, text: str | None) -> tuple[int, int]:
    """Return the release in a text, (0, 0) if there is none."""
    match = re.search(form, text or "")
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)
