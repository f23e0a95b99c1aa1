"""What comes from PyTorch land, once. Installed as `paw_mlx.convert`.

The package is the function, too: `paw_mlx.convert(source, out)`; see `convert/convert.py`.
"""

from paw_mlx import blas

blas.load()  # before anything below imports mlx.core

import sys  # noqa: E402
from types import ModuleType  # noqa: E402
from typing import Any  # noqa: E402


class _Function(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from paw_mlx.convert.convert import convert

        return convert(*arguments, **options)


sys.modules[__name__].__class__ = _Function
