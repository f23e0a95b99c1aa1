"""A published compiler to convert."""

from __future__ import annotations

from pathlib import Path

import pytest
from upstreams import write_upstream


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_upstream(tmp_path / "paw-tiny")
