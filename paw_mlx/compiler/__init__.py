"""Making programs."""

from .. import blas

blas.load()  # before anything below imports mlx.core
