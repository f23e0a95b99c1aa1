"""A training that is killed fifty times: as `tests/training` has it, for longer."""

from __future__ import annotations

import pytest
from killed_training import check_killed

pytestmark = pytest.mark.slow


def test_a_training_killed_fifty_times_ends_as_an_unbroken_one(tmp_path):
    check_killed(tmp_path, 50, seed=2)
