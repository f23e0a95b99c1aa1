"""A training that is killed, without a word, at any moment: what it ends in is the same."""

from __future__ import annotations

import pytest
from killed_training import check_killed

pytestmark = pytest.mark.slow


def test_a_killed_training_ends_as_an_unbroken_one(tmp_path):
    check_killed(tmp_path, 8, seed=1)
