"""What every test gets: homes of its own, and a BLAS loaded before MLX is."""

from __future__ import annotations

import os
import signal

import pytest

# Exact arithmetic is float32 on the CPU, on every machine; processes that tests start see it too.
os.environ["PAW_MLX_DEVICE"] = "cpu"

# Tests run side by side, a process a core: threads of a BLAS would only be in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A job in the background inherits SIGINT ignored, and so would the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

import paw_mlx.interpreter  # noqa: E402, F401  loads a BLAS before MLX


@pytest.fixture(autouse=True)
def homes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read from, or written to, the homes of whoever runs the tests."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PAW_MLX_HOME", str(home / "paw-mlx"))
    monkeypatch.setenv("HF_HOME", str(home / "huggingface"))
    for name in ("PAW_OFFLINE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
