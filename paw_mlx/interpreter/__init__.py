"""Running programs on a frozen base, through MLX."""

from .. import blas

blas.load()  # before anything below imports mlx.core

from .decode import Options  # noqa: E402
from .engine import Interpreter  # noqa: E402
from .function import Function, Result  # noqa: E402

__all__ = ["Function", "Interpreter", "Options", "Result"]
