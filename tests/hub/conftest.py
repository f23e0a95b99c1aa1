"""Small programs to fetch and store, and Python code in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import make_program

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
