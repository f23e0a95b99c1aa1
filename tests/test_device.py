"""What is set where MLX computes: precision, memory that Metal keeps, which process computes."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import mlx.core as mx
import pytest

from paw_mlx import ClosedError, device


@pytest.mark.parametrize(
    ("metal", "chosen", "limits"),
    [
        (True, mx.gpu, [50_000_000_000]),
        (True, mx.cpu, []),
        (False, mx.gpu, []),
        (False, mx.cpu, []),
    ],
)
def test_memory_is_wired_where_metal_computes(monkeypatch, metal, chosen, limits):
    found: list[int] = []
    fake = SimpleNamespace(
        gpu=mx.gpu,
        Device=mx.Device,
        metal=SimpleNamespace(is_available=lambda: metal),
        default_device=lambda: mx.Device(chosen),
        device_info=lambda: {"max_recommended_working_set_size": 50_000_000_000},
        set_wired_limit=found.append,
    )
    monkeypatch.setattr(device, "mx", fake)
    device.wire_memory()
    assert found == limits


def test_on_a_cpu_nothing_is_compiled_while_a_program_runs(tmp_path):
    """A C++ compiler would write among temporary files, where a kill leaves half a library."""
    source = (
        "import paw_mlx.device, mlx.core as mx, mlx.nn as nn\n"
        "mx.eval(nn.gelu(mx.ones(3)), mx.compile(lambda x: x * x + 1)(mx.ones(3)))\n"
        "print(mx.default_device().type.name)"
    )
    variables = os.environ | {"TMPDIR": str(tmp_path), "PAW_MLX_DEVICE": "cpu"}
    said = subprocess.check_output([sys.executable, "-c", source], env=variables, text=True)
    assert said == "cpu\n"
    assert not list(tmp_path.rglob("*.cpp"))


def test_a_process_computes_until_it_is_another_ones_child(monkeypatch):
    monkeypatch.setattr(device, "_computing", None)
    assert not device.is_forked()
    device.claim()
    device.claim()
    monkeypatch.setattr(device.os, "getpid", lambda: -1)
    assert device.is_forked()
    with pytest.raises(ClosedError, match="was forked") as error:
        device.claim()
    assert '"spawn"' in error.value.hints[0]


@pytest.mark.parametrize(("wanted", "found"), [(None, "0"), ("1", "1")])
def test_float32_is_no_tf32_unless_the_user_says_so(wanted, found):
    """MLX reads it at its first product, so it is set before MLX is imported."""
    source = (
        "import sys, paw_mlx.settings as settings\n"
        "keep = settings.keep_float32\n"
        "settings.keep_float32 = lambda: (keep(), print('mlx.core' in sys.modules))\n"
        "import os, paw_mlx.device\n"
        "print(os.environ['MLX_ENABLE_TF32'])"
    )
    kept = {name: value for name, value in os.environ.items() if name != "MLX_ENABLE_TF32"}
    said = {"MLX_ENABLE_TF32": wanted} if wanted else {}
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, env=kept | said, capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["False", found], "")
