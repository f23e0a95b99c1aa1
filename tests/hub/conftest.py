"""Small programs to fetch and store, and Python code in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import Hub, make_program

ROOT = Path(__file__).parents[2]
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return make_program(tmp_path / "one.paw")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another program than `program`."""
    return make_program(tmp_path / "two.paw", seed=1)


@pytest.fixture
def env(server: Hub, tmp_path: Path) -> dict[str, str]:
    """What a process finds that asks the `server` of its file, in homes of its own."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "PAW_MLX_HOME": str(tmp_path / "paw"),
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": server.url,
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }


@pytest.fixture
def start() -> Start:
    """Start Python code, with arguments, beside this process."""

    def start(code: str, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    return start
