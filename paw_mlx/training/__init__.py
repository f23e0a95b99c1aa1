"""Training by gradient, through MLX: the loop, and what it trains.

from paw_mlx.training.program import train    a program, from examples
"""

from .. import device  # noqa: F401  loads a BLAS before anything below imports mlx.core
