"""Calibration: temperatures against brute force, and thresholds against what they promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest

from paw_mlx.calibration import Rows, calibrate, choose_threshold, fit_temperature
from paw_mlx.calibration.threshold import binomial_tail
from paw_mlx.cases import Case
from paw_mlx.errors import InputTooLong, OptionError
from paw_mlx.evaluation import Judged, Report
from paw_mlx.functions import Function
from paw_mlx.output import TEXT, Labels
from paw_mlx.program import Program, Template
from paw_mlx.runner import Options, Result, Runner

Shares = dict[str, list[float]]  # of each input
Errors = Callable[[np.ndarray], np.ndarray]  # how often calls are wrong, by their rank from 0 to 1


class Deciding:
    """A runner that knows how likely each label is for each input."""

    max_in_flight = 4

    def __init__(self, shares: Shares) -> None:
        self.shares = shares

    def submit(self, program: Program, text: str, options: Options) -> Any:
        from concurrent.futures import Future

        future: Future[Result] = Future()
        if text not in self.shares:
            future.set_exception(InputTooLong("too long"))
            return future
        assert isinstance(program.output, Labels)
        logs = [math.log(share) for share in self.shares[text]]
        decision = program.output.decide(logs)
        future.set_result(Result(decision.text, "stop", 0, 1, 1, 0.0, 0.0, decision=decision))
        return future


def deciding(labels: Labels, shares: Shares) -> Function:
    program = Program(Template("", ""), None, "none", output=labels)
    return Function(cast(Runner, Deciding(shares)), program)


def rows(logs: np.ndarray, right: np.ndarray) -> Rows:
    logs = logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
    return Rows(logs, right, np.arange(len(right)))


def drawn(chance: np.random.Generator, num: int, num_labels: int, temperature: float) -> Rows:
    """Log-probabilities, and right labels drawn by them at a temperature."""
    logs = chance.normal(0, 6, (num, num_labels))
    right = (logs / temperature + chance.gumbel(size=logs.shape)).argmax(axis=1)
    return rows(logs, right)


# --- temperature ---------------------------------------------------------------------------


@pytest.mark.parametrize(("num_labels", "true"), [(2, 2.5), (5, 0.5), (12, 1.6)])
def test_the_temperature_is_the_best_and_the_true_one(num_labels: int, true: float) -> None:
    found = drawn(np.random.default_rng(1), 2000, num_labels, true)
    fit = fit_temperature(found)
    grid = np.geomspace(0.2, 5, 3001)
    best = grid[np.argmin([found.log_loss(float(each)) for each in grid])]
    assert fit.temperature == pytest.approx(best, rel=2e-3)
    assert fit.temperature == pytest.approx(true, rel=0.1)
    assert fit.reason is None
    for pair in (fit.log_loss, fit.calibration_error):
        assert pair is not None
        assert pair[1] < pair[0]
    assert fit.calibration_error[1] < 0.04


def test_what_does_no_good_to_other_cases_is_not_kept() -> None:
    """Two folds' worth of cases that contradict the others: whatever is fitted is wrong there."""
    logs = np.tile([[math.log(0.8), math.log(0.2)]], (50, 1))
    right = np.array([0, 0, 0, 0, 1] * 10)  # 80 % are right, as it says
    fit = fit_temperature(rows(logs, right))
    assert fit.temperature == 1.0
    assert fit.reason is not None
    assert "does no good" in fit.reason
    assert fit.log_loss is not None
    assert fit.log_loss[1] > 2 * fit.log_loss[0]


@pytest.mark.parametrize(
    ("right", "reason"),
    [
        ([0, 1] * 4, "it takes 10 cases whose output is a label, and there are 8"),
        ([0, 1] * 4 + [-1] * 9, "it takes 10 cases whose output is a label, and there are 8"),
        ([0] * 20, "all 20 cases have the same output"),
        ([0, 1] * 10, "all 20 cases are right, so that no probability is too low"),
        ([1, 0] * 10, "wrong labels are no less likely than right ones"),
    ],
)
def test_cases_that_cannot_tell_are_said_to_be_such(right: list[int], reason: str) -> None:
    high, low = math.log(0.9), math.log(0.1)
    logs = np.array([[high, low], [low, high]] * 10)[: len(right)]
    fit = fit_temperature(rows(logs, np.array(right)))
    assert (fit.temperature, fit.reason, fit.log_loss) == (1.0, reason, None)


def test_neither_order_nor_repetition_leaks(tmp_path: Any) -> None:
    """Equal inputs have one number, whatever stands between them."""
    labels = Labels(("a", "b"))
    chance = np.random.default_rng(2)
    cases = [Case(f"text {n % 30}", "ab"[n % 3 == 0]) for n in range(90)]
    shares = {case.input: [p := float(chance.uniform(0.05, 0.95)), 1 - p] for case in cases}
    first = calibrate(deciding(labels, shares), cases, max_error=0.4)
    again = calibrate(deciding(labels, shares), cases[::-1], max_error=0.4)
    assert first.fit == again.fit
    assert first.threshold == again.threshold
    found = Rows.of(first.report)
    assert len(found) == 90
    for number in range(30):
        assert len({*found.logs[found.inputs == number][:, 0]}) == 1
    assert len({*found.inputs.tolist()}) == 30


# --- threshold -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "num", "error"), [(0, 114, "1/50"), (3, 200, "1/10"), (40, 41, "9/10"), (7, 7, "1/3")]
)
def test_the_tail_is_the_binomials(wrong: int, num: int, error: str) -> None:
    p = Fraction(error)
    exact = sum(math.comb(num, k) * p**k * (1 - p) ** (num - k) for k in range(wrong + 1))
    assert binomial_tail(wrong, num, float(p)) == pytest.approx(float(exact), rel=1e-10)


ERROR, CONFIDENCE, CASES, DRAWS = 0.1, 0.9, 200, 1000
KINDS: dict[str, Errors] = {
    "wrong a little too often everywhere": lambda rank: np.full_like(rank, 1.001 * ERROR),
    "good up to a half, then too bad": lambda rank: np.where(rank < 0.5, 0.08, 0.16),
    "crossing steadily": lambda rank: 0.4 * rank,
    "in waves, falling first": lambda rank: ERROR * (1.002 + np.sin(60 * rank)),
    "in waves, rising first": lambda rank: ERROR * (1.002 - np.sin(60 * rank)),
    "worst where it is surest": lambda rank: np.where(rank < 0.4, 0.14, 0.02),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_promise_is_kept_whatever_the_program(kind: str) -> None:
    """The surest is at rank 0; the error of what is decided, integrated, not sampled."""
    errors, chance = KINDS[kind], np.random.default_rng(3)
    grid = (np.arange(20_000) + 0.5) / 20_000
    mean = np.cumsum(errors(grid)) / np.arange(1, 20_001)  # of calls up to a rank
    num_broken = 0
    for _ in range(DRAWS):
        rank = chance.uniform(size=CASES)
        correct = chance.uniform(size=CASES) >= errors(rank)
        found = choose_threshold((1 - rank / 2).tolist(), correct.tolist(), ERROR, CONFIDENCE)
        if found.value is not None:
            decided = min(2 * (1 - found.value), 1.0)
            num_broken += mean[min(int(decided * 20_000), 19_999)] > ERROR
    assert num_broken <= (1 - CONFIDENCE) * DRAWS


@pytest.mark.slow
def test_the_promise_holds_with_a_temperature_from_the_same_file() -> None:
    """Three labels, twice too sure; the error of 20,000 later calls is what chance makes it."""
    labels, num_broken, covered = Labels(("a", "b", "c")), 0, []
    later = drawn(np.random.default_rng(99), 20_000, 3, 2.0)
    wrong = 1 - later.shares(2.0).max(axis=1)
    for seed in range(200):
        some = drawn(np.random.default_rng(seed), 300, 3, 2.0)
        shares = {str(n): np.exp(logs).tolist() for n, logs in enumerate(some.logs)}
        cases = [Case(str(n), "abc"[right]) for n, right in enumerate(some.right)]
        found = calibrate(deciding(labels, shares), cases, max_error=0.1)
        if found.threshold.value is not None:
            decided = np.array(later.calls(found.fit.temperature)[0]) >= found.threshold.value
            num_broken += wrong[decided].mean() > 0.1
            covered.append(decided.mean())
    assert num_broken <= 20
    assert len(covered) > 120
    assert np.mean(covered) > 0.5


def test_a_good_program_decides_nearly_all() -> None:
    chance = np.random.default_rng(4)
    probabilities = chance.uniform(0.5, 1, 1000)
    correct = chance.uniform(size=1000) < 0.997
    found = choose_threshold(probabilities.tolist(), correct.tolist(), 0.02, 0.9)
    assert (found.value, found.coverage) == (0.0, 1.0)


def test_what_it_says_of_the_cases_is_what_its_threshold_does() -> None:
    chance = np.random.default_rng(5)
    probabilities = np.round(chance.uniform(0.5, 1, 400), 2)  # many are equally sure
    correct = chance.uniform(size=400) < probabilities**0.4
    found = choose_threshold(probabilities.tolist(), correct.tolist(), 0.1, 0.9)
    assert found.value is not None
    decided = probabilities >= found.value
    assert 50 < found.num_decided == decided.sum() < 400
    assert found.num_wrong == (~correct[decided]).sum()
    assert binomial_tail(found.num_wrong, found.num_decided, 0.1) <= 0.1


@pytest.mark.parametrize(
    ("num", "wrong", "reason"),
    [
        (113, (), "an error of 2% at most with confidence 90% takes 114 cases without an error, "
         "and there are 113"),
        (114, (5,), "1 of the 114 surest cases are wrong: too many for an error of 2% at most with "
         "confidence 90%"),
        (114, (), None),
    ],
)  # fmt: skip
def test_too_few_cases_or_too_many_wrong_ones(
    num: int, wrong: tuple[int, ...], reason: str | None
) -> None:
    correct = [n not in wrong for n in range(num)]
    found = choose_threshold([0.9] * num, correct, 0.02, 0.9)
    assert found.reason == reason
    assert found.value == (0.0 if reason is None else None)


@pytest.mark.parametrize(("error", "confidence"), [(0.0, 0.9), (1.0, 0.9), (0.1, 1.0), (0.1, 0.0)])
def test_a_promise_is_between_0_and_1(error: float, confidence: float) -> None:
    with pytest.raises(OptionError, match="lies between 0 and 1"):
        choose_threshold([0.9], [True], error, confidence)


# --- both ----------------------------------------------------------------------------------


def test_an_earlier_calibration_changes_nothing() -> None:
    chance = np.random.default_rng(6)
    shares = {str(n): [p := float(chance.uniform(0.01, 0.99)), 1 - p] for n in range(200)}
    cases = [Case(text, "ab"[int(chance.uniform() > p)]) for text, (p, _) in shares.items()]
    plain = Labels(("a", "b"), otherwise="UNSURE")
    before = replace(plain, temperature=3.0, threshold=0.99)
    found = [
        calibrate(deciding(labels, shares), cases, max_error=0.2) for labels in (plain, before)
    ]
    assert found[0].fit == found[1].fit
    assert found[0].threshold == found[1].threshold
    assert not any(one.decision.abstained for one in found[1].report.judged if one.decision)
    made = found[1].apply(before)
    assert made == replace(
        plain, temperature=found[0].fit.temperature, threshold=found[0].threshold.value
    )
    assert found[1].apply(before, "ASK").otherwise == "ASK"


def test_a_case_that_is_none_of_the_labels_is_wrong_and_one_that_fails_is_left_out() -> None:
    shares = {str(n): [0.99, 0.01] for n in range(40)}
    cases = [Case(text, "a") for text in shares]
    good = calibrate(deciding(Labels(("a", "b")), shares), cases, max_error=0.1)
    assert (good.threshold.num_wrong, good.threshold.value) == (0, 0.0)
    strange = [Case("0", "c"), Case("1", "c"), *cases[2:], Case("gone", "a")]
    found = calibrate(deciding(Labels(("a", "b")), shares), strange, max_error=0.1)
    assert (found.num_strange, found.report.num_failed) == (2, 1)
    assert found.threshold.value is None
    assert found.threshold.num_cases == 40


def test_only_labels_are_calibrated() -> None:
    text = Function(cast(Runner, Deciding({})), Program(Template("", ""), None, "x", output=TEXT))
    with pytest.raises(OptionError, match="the program's output is text"):
        calibrate(text, [Case("1", "a")])
    with pytest.raises(OptionError, match="none of the 1 cases could be run: too long"):
        calibrate(deciding(Labels(("a", "b")), {}), [Case("1", "a")])
    assert Report([Judged("1", "a", "a")]).decisions is None
