"""Promotion: the bound is Tango's, and what is worse by 2 points seldom passes."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from paw_mlx.evaluation.intervals import score_z
from paw_mlx.evaluation.promotion import (
    CONFIDENCE,
    MARGIN,
    count_needed,
    decide,
    hopeless,
    lower_bound,
)

DRAWS = 10_000


@cache
def passes(num: int, only_old: int, only_new: int) -> bool:
    return decide(num, only_old, only_new, num_old=num // 2).promoted


def test_the_statistic_is_tangos():
    # Tango (1998), section 5: of 44 patients one did worse with the new disinfection of soft
    # contact lenses, none better; of a margin of 10 points Z = 1.709, p = 0.044.
    assert score_z(44, 1, 0, -0.1) == pytest.approx(1.709, abs=5e-4)


@pytest.mark.parametrize("counts", [(44, 1, 0), (100, 3, 9), (60, 0, 0), (50, 20, 5)])
@pytest.mark.parametrize("difference", [-0.3, -0.1, -0.02, 0.01])
def test_the_share_in_it_is_the_likeliest_one(counts, difference):
    num, only_old, only_new = counts
    shares = np.linspace(1e-9, 1, 400_001)  # of what only the old one gets right
    others = shares + difference, 1 - 2 * shares - difference
    with np.errstate(divide="ignore", invalid="ignore"):
        likelihood = only_old * np.log(shares) + only_new * np.log(others[0])
        likelihood += (num - only_old - only_new) * np.log(others[1])
    share = shares[np.nanargmax(np.where(others[1] >= 0, likelihood, -np.inf))]
    share = max(share, -difference) if only_old == 0 else share
    spread = math.sqrt(num * (2 * share + difference * (1 - difference)))
    expected = (only_new - only_old - num * difference) / spread
    assert score_z(*counts, difference) == pytest.approx(expected, abs=2e-3)


def test_the_bound_is_where_the_statistic_is_that_of_99_percent():
    bound = lower_bound(120, 2, 14)
    z = score_z(120, 2, 14, bound)
    assert 0.5 * math.erfc(-z / math.sqrt(2)) == pytest.approx(CONFIDENCE, abs=1e-5)
    assert bound < 12 / 120


@pytest.mark.parametrize("num", [10, 30, 60, 100, 200, 500])
def test_what_is_worse_by_2_points_is_promoted_once_in_a_hundred_at_most(num):
    """By enumeration, whatever the share of cases on which the two differ."""
    logs = np.cumsum(np.log(np.maximum(np.arange(num + 1), 1)))  # of factorials
    pairs = [(b, c) for b in range(num + 1) for c in range(b + 1, num + 1 - b)]
    b, c = np.array([pair for pair in pairs if passes(num, *pair)] or [(0, 0)]).T
    for only_new in (0.001, 0.01, 0.05, 0.1, 0.2, 0.45):
        only_old = only_new + MARGIN
        same = num - b - c
        chances = logs[num] - logs[b] - logs[c] - logs[same]
        chances += b * np.log(only_old) + c * np.log(only_new)
        chances += same * np.log(1 - only_old - only_new)
        assert np.exp(chances).sum() < 0.0115


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.2])
def test_simulated_promotions(noise):
    """10,000 draws at each true difference, some labels wrong: what is worse hardly ever passes."""
    chance = np.random.default_rng(0)
    for num in (30, 100, 300):
        for difference in (-0.05, -0.03, -0.02, 0.0, 0.05):
            only_old = 0.06 + max(-difference, 0)
            only_new = only_old + difference
            # Where a label is wrong, who is right and who is wrong change places.
            seen_old = (1 - noise) * only_old + noise * only_new
            seen_new = (1 - noise) * only_new + noise * only_old
            shares = [seen_old, seen_new, 1 - seen_old - seen_new]
            drawn = chance.multinomial(num, shares, DRAWS)
            rate = np.mean([passes(num, int(b), int(c)) for b, c, _ in drawn])
            if difference <= -MARGIN:
                assert rate <= 0.012 + 0.08 * noise, (num, difference, rate)
            if difference == 0.05 and num == 300 and not noise:
                assert rate > 0.7


def test_few_cases_are_told_how_many_would_do():
    found = decide(30, 0, 2, num_old=25)
    assert not found.promoted
    assert "too few to tell" in found.reason
    assert found.num_needed
    assert f"about {found.num_needed:,} cases" in found.reason
    more = found.num_needed / 30
    assert score_z(found.num_needed, 0, round(2 * more), -MARGIN) == pytest.approx(2.33, abs=0.15)
    assert count_needed(30, 5, 1) is None


def test_what_is_not_better_is_not_promoted_however_many_cases():
    found = decide(100_000, 10, 10, num_old=99_000)
    assert found.lower_bound > -MARGIN
    assert not found.promoted
    assert "not better" in found.reason


def test_a_clear_gain_is_promoted_with_its_numbers():
    found = decide(120, 2, 14, num_old=90)
    assert found.promoted
    assert found.reason == (
        "of 120 cases it is right on 14 that the old one gets wrong, and wrong on 2 that it gets "
        "right: +10.0 points, at least +2.7"
    )


def test_cases_that_are_failures_alone_do_not_tell_what_is_lost():
    assert decide(30, 0, 20, num_old=0).promoted
    found = decide(30, 0, 20, num_old=0, expected=0.93)
    assert not found.promoted
    assert "mostly its failures" in found.reason
    assert decide(60, 0, 20, num_old=30, expected=0.93).promoted  # 30 of what it got right, kept


@pytest.mark.parametrize(
    ("num", "num_old", "told"),
    [(0, 0, "every case was trained on"), (60, 60, "nothing to gain"), (60, 58, "too few to tell")],
)
def test_what_no_training_could_change_is_said_before(num, num_old, told):
    found = hopeless(num, num_old)
    assert found
    assert told in found.reason
    assert not found.promoted


def test_hopeless_is_only_what_even_a_faultless_program_would_not_pass():
    for num in (5, 6, 20, 60, 300):
        for num_old in range(num):
            best = decide(num, 0, num - num_old, num_old=num_old).promoted
            assert (hopeless(num, num_old) is None) == best
