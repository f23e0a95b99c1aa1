"""What several tests of the benchmarks start from."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from fuzzy_rows import write_jsonl

from paw_mlx.benchmarks.accuracy import tasks
from paw_mlx.benchmarks.accuracy.tasks import Task


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, to be read."""
    return tiny.write_base(tmp_path_factory.mktemp("bases") / "tiny", "llama")


@pytest.fixture
def found(tmp_path: Path) -> list[Task]:
    """A function of each kind, half of its rows to learn from."""
    return tasks.load(str(write_jsonl(tmp_path / "rows.jsonl")), halve=True)
