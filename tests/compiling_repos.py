"""The tiny compilers of tests/golden/compiler: made by torch, converted here once a session."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np

from paw_mlx.convert.checkpoint import convert_compiler

GOLDEN = Path(__file__).parent / "golden" / "compiler"
KINDS = ("gpt2", "qwen3")
SPEC = "Alert on the log lines that matter. Return ONLY one of: ALERT, QUIET."
PSEUDO_PROGRAM = """[PSEUDO_PROGRAM]
Task: Read a log line. ALERT if somebody has to act, QUIET if not.

Examples:
Input: the disk is full
Output: ALERT
Input: spring picnic on Friday
Output: QUIET
[END_PSEUDO_PROGRAM]"""


def repo(kind: str) -> Path:
    """A compiler as published."""
    return GOLDEN / kind / "repo"


def interpreter(kind: str) -> Path:
    """The base that it writes for."""
    return GOLDEN / kind / "interpreter"


@functools.cache
def converted(kind: str, bits: int = 32) -> Path:
    """A compiler converted; read it, do not write to it."""
    folder = tempfile.TemporaryDirectory()
    _kept.append(folder)
    return Path(convert_compiler(repo(kind), Path(folder.name) / "compiler", bits=bits))


@functools.cache
def expected(kind: str) -> dict[str, np.ndarray]:
    """What torch and transformers computed."""
    with np.load(GOLDEN / kind / "expected.npz") as found:
        return dict(found)


_kept: list[tempfile.TemporaryDirectory[str]] = []  # removed when the tests end
