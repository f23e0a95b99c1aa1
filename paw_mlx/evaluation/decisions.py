"""How sure a program was of its labels, and how right it was to be.

A call that abstained is neither right nor wrong here: it counts in the coverage alone. Of every
call, abstained or not, the label and its probability are known, so that the curves below show any
threshold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..output import Decision

NUM_BINS = 15  # as Guo et al. have it
_LEAST = 5e-324  # a float's least: a log loss is 744.4 nats at most


class Bin(NamedTuple):
    """Calls whose probability lies above `low` and up to `high`.

    `said` is the mean of their probabilities, `right` the share whose label is right.
    """

    low: float
    high: float
    num: int
    said: float
    right: float


class Point(NamedTuple):
    """What a threshold does: the share of calls at least so sure, and the share of them wrong."""

    threshold: float
    coverage: float
    error: float


def reliability(probabilities: Sequence[float], correct: Sequence[bool]) -> list[Bin]:
    """Sort calls into bins of equal width by their probability, leaving out the empty ones."""
    bins: dict[int, list[tuple[float, bool]]] = {}
    for probability, is_right in zip(probabilities, correct, strict=True):
        number = max(math.ceil(probability * NUM_BINS) - 1, 0)
        bins.setdefault(number, []).append((probability, is_right))
    return [
        Bin(
            number / NUM_BINS,
            (number + 1) / NUM_BINS,
            len(calls),
            sum(probability for probability, _ in calls) / len(calls),
            sum(is_right for _, is_right in calls) / len(calls),
        )
        for number, calls in sorted(bins.items())
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error, 0 to 1, of calls in bins.

    The mean over calls of |said - right| of their bin: Naeini et al., AAAI 2015, with the label's
    own probability and 15 bins of equal width, as Guo et al., ICML 2017 (arXiv:1706.04599). Few
    calls a bin make it too large.
    """
    total = sum(one.num for one in bins)
    return sum(one.num * abs(one.said - one.right) for one in bins) / total


@dataclass(frozen=True)
class Decisions:
    """Decisions on cases, each with the output that is right."""

    pairs: Sequence[tuple[Decision, str]]

    @property
    def correct(self) -> list[bool]:
        """Whether each label is the right one, said or not."""
        return [decision.label == right for decision, right in self.pairs]

    @property
    def num_decided(self) -> int:
        """How many calls did not abstain."""
        return sum(not decision.abstained for decision, _ in self.pairs)

    @property
    def coverage(self) -> float:
        """The share of calls that did not abstain, 0 to 1."""
        return self.num_decided / len(self.pairs)

    @property
    def error(self) -> float | None:
        """The share of decided calls whose label is wrong, 0 to 1; None if none was decided."""
        wrong = [d.label != right for d, right in self.pairs if not d.abstained]
        return sum(wrong) / len(wrong) if wrong else None

    @property
    def log_loss(self) -> float | None:
        """The mean of -ln(probability of the right label), in nats.

        Over the cases whose right output is one of the labels; None if none's is.
        """
        known = [d.probabilities[right] for d, right in self.pairs if right in d.probabilities]
        if not known:
            return None
        return -sum(math.log(max(probability, _LEAST)) for probability in known) / len(known)

    @property
    def in_scope(self) -> float:
        """The mean probability that the program says one of the labels if it may say anything."""
        return sum(decision.in_scope for decision, _ in self.pairs) / len(self.pairs)

    def bins(self) -> list[Bin]:
        """Sort the calls into bins by the probability of their label."""
        return reliability([decision.probability for decision, _ in self.pairs], self.correct)

    @property
    def calibration_error(self) -> float:
        """The expected calibration error, 0 to 1."""
        return calibration_error(self.bins())

    def curve(self) -> list[Point]:
        """Return the risk–coverage curve (El-Yaniv and Wiener, JMLR 2010), the surest calls first.

        A point for each probability there is: calls that are as sure are decided together.
        """
        calls = [(d.probability, d.label != right) for d, right in self.pairs]
        calls.sort(key=lambda call: -call[0])
        points, num_wrong = list[Point](), 0
        for number, (probability, is_wrong) in enumerate(calls, 1):
            num_wrong += is_wrong
            if number == len(calls) or calls[number][0] < probability:
                points.append(Point(probability, number / len(calls), num_wrong / number))
        return points

    @property
    def area(self) -> float:
        """The area under the risk–coverage curve, 0 (best) to 1.

        The mean over calls of the error of those at least as sure: AURC of Geifman et al., ICLR
        2019 (arXiv:1805.08206), and the same for calls that are equally sure.
        """
        area = covered = 0.0
        for point in self.curve():
            area += (point.coverage - covered) * point.error
            covered = point.coverage
        return area

    def record(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return {
            "num_decided": self.num_decided,
            "coverage": self.coverage,
            "error": self.error,
            "log_loss": self.log_loss,
            "calibration_error": self.calibration_error,
            "in_scope": self.in_scope,
            "risk_coverage_area": self.area,
            "risk_coverage": [point._asdict() for point in self.curve()],
        }
