"""A teaching that is killed two hundred times: as `tests/teaching` has it, for longer."""

from __future__ import annotations

import pytest
from killed_teaching import check_killed

pytestmark = pytest.mark.slow


def test_a_teaching_killed_two_hundred_times_ends_as_an_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    check_killed(tmp_path, 200, seed=2)
