"""The benchmark harness. Installed as `paw_mlx.benchmarks`."""

from paw_mlx import blas

blas.load()  # before anything below imports mlx.core
