"""Conversion between layouts, and out of PyTorch's, with receipts. Installed as `paw_mlx.convert`.

from paw_mlx.convert import convert
convert("adapter_folder", "triage.paw", spec="…", pseudo_program="…")
"""

from paw_mlx import device  # noqa: F401  loads a BLAS before anything below imports mlx.core
from paw_mlx.convert.program import convert

__all__ = ["convert"]
