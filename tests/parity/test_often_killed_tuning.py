"""Tunings and promotions killed two hundred times: as `tests/training` has it, for longer."""

from __future__ import annotations

import pytest
from killed_tuning import check_killed_promotion, check_killed_tuning

pytestmark = pytest.mark.slow


def test_a_tuning_killed_two_hundred_times_ends_as_an_unbroken_one(tmp_path):
    check_killed_tuning(tmp_path, 200, seed=2)


def test_a_promotion_killed_two_hundred_times_leaves_the_old_version_or_the_new_one(tmp_path):
    check_killed_promotion(tmp_path, 200, seed=2)
