"""The benchmark harness. Installed as `paw_mlx.benchmarks`."""

from paw_mlx import device  # noqa: F401  loads a BLAS before anything below imports mlx.core
