"""Running programs on a frozen base, through MLX."""

from .. import blas

blas.load()  # before anything below imports mlx.core

import mlx.core as mx  # noqa: E402

from .. import settings  # noqa: E402

if device := settings.device():
    mx.set_default_device(mx.Device(getattr(mx, device)))

from .decode import Options  # noqa: E402
from .engine import Interpreter  # noqa: E402
from .function import Function, Result  # noqa: E402

__all__ = ["Function", "Interpreter", "Options", "Result"]
