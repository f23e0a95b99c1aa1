"""`python -m paw_mlx` is `paw-mlx`."""

from .cli import main

main()
