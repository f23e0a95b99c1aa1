"""An optimized BLAS for MLX on Linux, loaded before MLX is.

MLX's Linux wheel links the reference BLAS, a hundred times slower. A library loaded first,
with its symbols global, answers MLX's calls instead. It must come before `mlx.core`: later
is too late, so then nothing is loaded. On macOS nothing is ever loaded.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from . import settings
from .errors import OptionError

DEBIAN = "libopenblas.so.0"


@cache
def load() -> str | None:
    """Load an optimized BLAS where one is found and needed; say which.

    The first of: what PAW_MLX_BLAS names (`none` for none), pip's or conda's `mkl`, Debian's
    OpenBLAS. A second call answers the same. OptionError if PAW_MLX_BLAS does not load.
    """
    if sys.platform != "linux" or "mlx.core" in sys.modules:
        return None
    named = settings.blas_library()
    if named == "none":
        return None
    if named is not None:
        if problem := _load(named):
            raise OptionError(
                f"PAW_MLX_BLAS names {named!r}, which does not load: {problem}",
                hint="give the path of a BLAS library, or `none` to use MLX's own",
            )
        return named
    return next((library for library in _candidates() if _load(library) is None), None)


def _load(library: str) -> OSError | None:
    """Load a library, its symbols global; return what was wrong with it."""
    try:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return error
    return None


def _candidates() -> Iterator[str]:
    """Yield libraries to try, best first; mkl's end in a major version: `libmkl_rt.so.3`."""
    yield from sorted(map(str, Path(sys.prefix, "lib").glob("libmkl_rt.so*")), reverse=True)
    try:  # a user's install lies outside sys.prefix
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    yield from (str(file.locate()) for file in files if file.name.startswith("libmkl_rt.so"))
    yield DEBIAN
