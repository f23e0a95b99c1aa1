"""`tests/exit_codes.py`, a few times; the macOS workflow has it run a hundred."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_a_command_ends_with_0_and_the_same_output_every_time(family):
    command = [sys.executable, str(TESTS / "exit_codes.py"), "-n", "3", "--families", family]
    done = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        f"{family}, as it is: exit codes {{0: 3}}",
        f"{family}, as on a GPU: exit codes {{0: 3}}",
    ]
