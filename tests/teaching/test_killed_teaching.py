"""A teaching that is killed at any moment: the file it ends with is that of an unbroken one."""

from __future__ import annotations

import pytest
from killed_teaching import check_killed

pytestmark = pytest.mark.slow


def test_a_teaching_killed_at_random_ends_as_an_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    check_killed(tmp_path, 6, seed=1)
