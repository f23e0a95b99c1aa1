"""The BLAS is loaded before MLX and serves it; where it cannot help, nothing happens.

Each case runs in a process of its own: a library, once loaded, stays.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from paw_mlx import blas

ROOT = Path(__file__).parents[1]
LOADED = "loaded = {line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}\n"

SERVED = """
import ctypes
from paw_mlx import blas

print(blas.load())
import mlx.core as mx

class Symbol(ctypes.Structure):
    _fields_ = [("file", ctypes.c_char_p), ("base", ctypes.c_void_p)]
    _fields_ += [("name", ctypes.c_char_p), ("address", ctypes.c_void_p)]

a = mx.arange(6, dtype=mx.float32).reshape(2, 3)
print((a @ a.T).tolist())
process, symbol = ctypes.CDLL(None), Symbol()
address = ctypes.cast(process.cblas_sgemm, ctypes.c_void_p)
process.dladdr(address, ctypes.byref(symbol))
print(symbol.file.decode())
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a BLAS is loaded on Linux only")
with_blas = pytest.mark.skipif(
    blas.load() is None, reason="no optimized BLAS on this machine (pip install mkl)"
)


def python(source: str, **environment: str) -> str:
    """Run a few lines in a new process; its output, or its traceback."""
    done = subprocess.run(
        [sys.executable, "-c", source],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout if done.returncode == 0 else done.stderr


@with_blas
def test_mlx_multiplies_with_the_library_that_was_loaded() -> None:
    lines = python(SERVED, MKL_VERBOSE="1").splitlines()
    library, product, server = (line for line in lines if not line.startswith("MKL_VERBOSE"))
    assert library == blas.load()
    assert product == "[[5.0, 14.0], [14.0, 50.0]]"
    assert Path(server).name.startswith(Path(library).name)
    if "libmkl_rt" in library:
        assert any(line.startswith("MKL_VERBOSE SGEMM(") for line in lines)


@with_blas
def test_loading_twice_answers_the_same_even_after_mlx() -> None:
    answers = python(
        "from paw_mlx import blas\n"
        "first = blas.load()\n"
        "import mlx.core\n"
        "print(first is not None and blas.load() == first)"
    )
    assert answers == "True\n"


@with_blas
def test_nothing_is_loaded_once_mlx_is_there() -> None:
    source = "import mlx.core\nfrom paw_mlx import blas\nprint(blas.load())\n" + LOADED
    output = python(source + f"print({blas.load()!r} in loaded)")
    assert output == "None\nFalse\n"


@with_blas
def test_the_override_names_a_library_or_none() -> None:
    load = "from paw_mlx import blas\nprint(blas.load())\n"
    assert python(load, PAW_MLX_BLAS="none") == "None\n"
    assert python(load, PAW_MLX_BLAS=str(blas.load())) == f"{blas.load()}\n"


def test_an_override_that_does_not_load_is_an_option_error(tmp_path: Path) -> None:
    nothing = tmp_path / "libnothing.so"
    error = python("from paw_mlx import blas\nblas.load()", PAW_MLX_BLAS=str(nothing))
    assert "OptionError: PAW_MLX_BLAS names" in error
    assert f"{str(nothing)!r}, which does not load" in error
    assert "or `none` to use MLX's own" in error


def test_a_library_that_is_broken_or_absent_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libmkl_rt.so.9").write_bytes(b"not a library")
    output = python(
        "import sys, lazy_loader\n"
        f"sys.prefix = {str(tmp_path)!r}\n"
        "sys.path[:] = [path for path in sys.path if 'site-packages' not in path]\n"
        "from paw_mlx import blas\n"
        "print(blas.load())\n",
        PAW_MLX_BLAS="",
    )
    assert output in ("None\n", f"{blas.DEBIAN}\n")
