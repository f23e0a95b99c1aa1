"""The benchmark harness. Installed as `paw_mlx.benchmarks`."""
