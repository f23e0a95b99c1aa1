"""What a number was measured on; no number without it."""

from __future__ import annotations

import platform
from importlib.metadata import version

import mlx.core as mx

from paw_mlx.interpreter import Interpreter


def machine(interpreter: Interpreter) -> dict[str, object]:
    """Device, system and versions."""
    info = mx.device_info()
    return {
        "device": interpreter.device,
        "chip": str(info.get("device_name", platform.machine())),
        "system": platform.platform(),
        "dtype": str(interpreter.base.dtype).removeprefix("mlx.core."),
        "mlx": version("mlx"),
        "paw_mlx": version("paw-mlx"),
    }
