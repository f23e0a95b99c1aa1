"""Running programs on a frozen base, through MLX."""

from .. import device  # noqa: F401  loads a BLAS before anything below imports mlx.core
from .interpreter import Interpreter

__all__ = ["Interpreter"]
