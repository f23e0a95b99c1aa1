"""A tiny base of each family, loaded once for a file's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny
from engine_room import batch_of

from paw_mlx import Interpreter


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base") / family, family)


@pytest.fixture(scope="module")
def interpreter(folder: Path) -> Iterator[Interpreter]:
    with Interpreter.load(str(folder), max_rows=8) as loaded:
        yield loaded


@pytest.fixture(params=[False, True], ids=["in step", "a step ahead"])
def ahead(request: pytest.FixtureRequest, interpreter: Interpreter) -> Iterator[None]:
    """As on a CPU, and as on a GPU."""
    running = batch_of(interpreter)
    running.ahead = request.param
    yield
    running.ahead = False
