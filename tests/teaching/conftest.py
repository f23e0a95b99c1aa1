"""A teacher of the tests' own, and no waiting between its tries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from teacher_server import Teacher, serving_teacher

from paw_mlx.teaching import endpoint


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Teacher]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("PAW_TEACHER_KEY", raising=False)
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.01)
    with serving_teacher(Teacher()) as served:
        yield served
