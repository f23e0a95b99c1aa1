"""What comes from PyTorch land, once. Installed as `paw_mlx.convert`."""

from paw_mlx import blas

blas.load()  # before anything below imports mlx.core
