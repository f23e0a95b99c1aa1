"""Making programs."""

from .. import device  # noqa: F401  loads a BLAS before anything below imports mlx.core
