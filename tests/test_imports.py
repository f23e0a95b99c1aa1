"""What stands below the interpreter imports no MLX: it runs where none is, and starts at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BELOW = [
    "paw_mlx.formats",
    "paw_mlx.hub",
    "paw_mlx.store",
    "paw_mlx.functions",
    "paw_mlx.rows.flow",
    "paw_mlx.runner",
]
CODE = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(sorted(name for name in sys.modules if name.split(".")[0] in ("mlx", "mlx_lm")))
"""


@pytest.mark.parametrize("modules", [*([name] for name in BELOW), BELOW], ids=" ".join)
def test_importing_it_imports_no_mlx(modules: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, *modules],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
