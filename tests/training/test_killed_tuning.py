"""A tuning that is killed goes on to the same end, and what is promoted is whole."""

from __future__ import annotations

import pytest
from killed_tuning import check_killed_promotion, check_killed_tuning

pytestmark = pytest.mark.slow


def test_a_tuning_killed_at_random_ends_as_an_unbroken_one(tmp_path):
    check_killed_tuning(tmp_path, 6, seed=1)


def test_a_promotion_killed_at_random_leaves_the_old_version_or_the_new_one(tmp_path):
    check_killed_promotion(tmp_path, 6, seed=1)
