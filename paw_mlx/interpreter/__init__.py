"""Running programs on a frozen base, through MLX."""

from .. import blas

blas.load()  # before anything below imports mlx.core

import mlx.core as mx  # noqa: E402

from .. import settings  # noqa: E402
from ..errors import OptionError  # noqa: E402

if device := settings.device():
    try:
        mx.set_default_device(mx.Device(getattr(mx, device)))
    except ValueError as error:
        raise OptionError(f"PAW_MLX_DEVICE is {device}: {error}") from error

from .call import Result  # noqa: E402
from .decode import Options  # noqa: E402
from .engine import Interpreter  # noqa: E402
from .function import Function  # noqa: E402

__all__ = ["Function", "Interpreter", "Options", "Result"]
