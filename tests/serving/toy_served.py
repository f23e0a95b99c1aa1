"""A toy compiler on a tiny base, and compile jobs and functions that use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import toy_compilers as toy

from paw_mlx.functions import Function
from paw_mlx.serving.compiles import Compiles
from paw_mlx.serving.residents import Residents

SPEC = "1 if disk is there, else 0. Return ONLY one of: 0, 1"


class Toy:
    """A folder with both, made once."""

    def __init__(self, folder: Path) -> None:
        self.base = toy.write_base(folder / "base")
        self.compiler = folder / "compiler"
        toy.train(self.base, self.compiler)

    def compiles(self, **options: Any) -> Compiles:
        """Compile jobs of the toy compiler."""
        return Compiles(str(self.compiler), interpreter=str(self.base), offline=True, **options)


class OnBase(Residents):
    """Functions that all run on one base: that of a toy is not found by its name."""

    def __init__(self, base: Path) -> None:
        super().__init__()
        self._only = str(base)

    def function(self, program: Any, **keywords: Any) -> Function:
        return super().function(program, **{"interpreter": self._only} | keywords)
