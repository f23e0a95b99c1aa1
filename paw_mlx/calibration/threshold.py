"""The lowest threshold that keeps a promise: how often decided calls are wrong.

Learn then Test (Angelopoulos et al., 2021, arXiv:2110.01052): for m = first, first + 1, … it is
tested whether calls surer than case m + 1 are wrong more often than `max_error`, by the exact
binomial tail of the m surest cases; up to the first m that does not pass. In a fixed order no test
needs a correction for the others.

The threshold of a test is a case's own probability, and the tests are exact all the same. Given it,
the m surer cases are independent draws from the calls above it. And the first test that should not
pass does so with a probability of 1 - confidence at most, wherever it comes. Where the error of the
calls above a threshold crosses `max_error`, it equals it; so, given how many cases lie between
crossings, the errors above one are binomial with `max_error`. That test comes behind a crossing,
and the cases between are wrong more often, on the whole; or it is the very first.

Conformal risk control (Angelopoulos et al., ICLR 2024, arXiv:2208.02814) does not do: it bounds
the expectation of a loss that falls as the threshold rises. The error of decided calls is a ratio,
and may rise. What would fall, the share of calls that are decided and wrong, is small where little
is decided, however wrong that is.

The first m is half of the cases, or the fewest that can pass. That decides 44 % of the cases in the
mean of 840 settings (80 to 3,000 cases, max_error 0.01 to 0.1, accuracy 0.75 to 0.995, and
probabilities that tell nothing to very much). Beginning with a third or a quarter decides 44 and
43 %; with two beginnings, 43 %; 5 or 10 coverages with Bonferroni's correction, 37 and 35 %; the
bisection of Geifman and El-Yaniv (NeurIPS 2017, arXiv:1705.08500), 32 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from ..errors import OptionError


@dataclass(frozen=True)
class Threshold:
    """A threshold, and how the cases it was chosen on fare with it.

    `value` is None, and `reason` says why, if none keeps the promise of `max_error` and
    `confidence`.
    """

    max_error: float
    confidence: float
    num_cases: int
    value: float | None = None
    num_decided: int = 0
    num_wrong: int = 0
    reason: str | None = None

    @property
    def coverage(self) -> float:
        """The share of cases that are decided, 0 to 1."""
        return self.num_decided / self.num_cases


_STEP = 0.01  # of log-odds
_TINY = 2.0**-54  # less than what a probability next to 1 lacks


def choose_threshold(
    probabilities: Sequence[float], correct: Sequence[bool], max_error: float, confidence: float
) -> Threshold:
    """Choose the lowest threshold with which at most `max_error` of decided calls are wrong.

    Of cases: the probability of the label (N) and whether it is right (N). Equally sure ones, to
    0.01 of the log-odds, stand in an order that says nothing of that, and are decided together:
    noise in the last digits then seldom brings a call over the threshold.

    The promise: if cases and later inputs are drawn independently from one distribution, whatever
    it is, then with a probability of `confidence` or more over the draw of the cases, of all later
    calls that are decided a share of `max_error` or less is wrong. It is for neither a single label
    nor inputs of another kind.
    """
    check_promise(max_error, confidence)
    sure = [_level(probability) for probability in probabilities]
    order = sorted(range(len(sure)), key=lambda n: -sure[n])
    ranked = [sure[n] for n in order]
    wrong = [0, *accumulate(not correct[n] for n in order)]  # of the surest 0, 1, …
    found = Threshold(max_error, confidence, len(ranked))
    fewest = math.ceil(math.log(1 - confidence) / math.log(1 - max_error))
    first = max(fewest, len(ranked) // 2)
    promise = f"an error of {max_error * 100:.3g}% at most with confidence {confidence * 100:.3g}%"
    if first > len(ranked):
        reason = f"{promise} takes {fewest:,} cases without an error, and there are {len(ranked):,}"
        return replace(found, reason=reason)
    passed = _count_passing(wrong, first, max_error, 1 - confidence)
    while 0 < passed < len(ranked) and ranked[passed - 1] == ranked[passed]:
        passed -= 1
    if passed < first:
        reason = f"{wrong[first]:,} of the {first:,} surest cases are wrong: too many for {promise}"
        return replace(found, reason=reason)
    odds = math.exp((ranked[passed] + 1) * _STEP) if passed < len(ranked) else 0.0
    value = odds / (1 + odds)
    return replace(found, value=value, num_decided=passed, num_wrong=wrong[passed])


def _count_passing(wrong: Sequence[int], first: int, max_error: float, risk: float) -> int:
    """Return the last m, from `first` on, up to which all tests pass; 0 if none does."""
    for m in range(first, len(wrong)):
        if binomial_tail(wrong[m], m, max_error) > risk:
            return m - 1 if m > first else 0
    return len(wrong) - 1


def _level(probability: float) -> int:
    """Return how many whole steps of log-odds a probability is above 1/2."""
    return math.floor(math.log(max(probability, _TINY) / max(1 - probability, _TINY)) / _STEP)


def binomial_tail(num_wrong: int, num: int, error: float) -> float:
    """Return the probability that of `num` draws at most `num_wrong` are wrong, each by `error`."""
    log = math.lgamma(num + 1) - math.lgamma(num_wrong + 1) - math.lgamma(num - num_wrong + 1)
    log += num_wrong * math.log(error) + (num - num_wrong) * math.log1p(-error)
    term = total = math.exp(log)
    for k in range(num_wrong, 0, -1):
        term *= k * (1 - error) / ((num - k + 1) * error)
        total += term
    return total


def check_promise(max_error: float, confidence: float) -> None:
    """Raise OptionError unless both lie between 0 and 1."""
    for name, value in (("max_error", max_error), ("confidence", confidence)):
        if not 0 < value < 1:
            raise OptionError(f"{name} lies between 0 and 1, and is not {value}")
