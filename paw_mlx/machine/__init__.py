"""This machine: its card, what a model may take of it, and (in `doctor`) what is amiss.

No number without the card of the machine it was measured on. A card says what does not change
while a process runs, a `condition` what does: power, heat, load. Nothing here fails: what a
machine does not tell is None. MLX is imported when asked about, and may be missing or broken.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from .. import blas
from .chips import bandwidth
from .conditions import condition as condition
from .conditions import power_mode as power_mode
from .hardware import Hardware as Hardware
from .hardware import system as system
from .mlx_library import Library as Library
from .mlx_library import matrix_units as matrix_units
from .mlx_library import mlx as mlx
from .versions import commit_of
from .versions import version_of as version_of

_MEMORY_SHARE = 0.9  # of the memory, where no GPU says how much of it to use


def card() -> dict[str, Any]:
    """Return chip, system, versions and device.

    `matrix_units` is whether MLX reaches the GPU's, None if it has none; `commit` that of the
    checkout this package runs from, `-dirty` if files in it changed.
    """
    hardware, library = system(), mlx()
    loaded = blas.load()
    lacking = matrix_units(library.architecture, hardware.os, library.wheel)
    return {
        "chip": hardware.chip,
        "model": hardware.model,
        "gpu_cores": hardware.gpu_cores,
        "cpu_cores": hardware.cpu_cores,
        "memory_bytes": hardware.memory_bytes,
        "bandwidth_gb_s": bandwidth_gb_s(),
        "os": hardware.os,
        "python": platform.python_version(),
        "mlx": library.version,
        "mlx_lm": version_of("mlx-lm"),
        "paw_mlx": version_of("paw-mlx"),
        "wheel": library.wheel,
        "device": library.device,
        "gpu": library.gpu,
        "matrix_units": None if lacking is None else not lacking,
        "blas": Path(loaded).name if loaded else None,
        "commit": commit_of(Path(__file__).resolve()),
    }


def bandwidth_gb_s() -> float | list[float] | None:
    """Return what a GPU's memory can reach, [least, most] where that is not certain.

    None where nothing is known, or MLX computes on the CPU.
    """
    hardware, library = system(), mlx()
    if library.device != "gpu":
        return None
    name = library.gpu or hardware.chip
    speed = bandwidth(name, hardware.gpu_cores, hardware.memory_bytes)
    return list(speed) if isinstance(speed, tuple) else speed


def limit_bytes() -> int | None:
    """Return what a model may take: what the GPU that computes says, else most of the memory."""
    library, physical = mlx(), system().memory_bytes
    if library.device == "gpu" and library.gpu_bytes:
        return library.gpu_bytes
    return int(_MEMORY_SHARE * physical) if physical else None
