"""Two programs on the same cases: is the one better, or is it luck?

Only cases that one of the two gets right tell anything. McNemar's exact test asks how likely such
a split is if the two were equally good: Psychometrika 12 (1947), the exact form as in Agresti,
Categorical Data Analysis, 3rd ed., 11.1.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ..errors import OptionError
from ..words import counted
from .intervals import Z, difference_at
from .report import Judged, Report

LEVEL = 0.05  # a verdict is wrong for one in twenty pairs of equally good programs at most
Verdict = Literal["better", "worse", "cannot tell"]
_TOLD = [
    "both_right",
    "only_a",
    "only_b",
    "both_wrong",
    "difference",
    "interval",
    "p_value",
    "verdict",
    "needed",
]


@dataclass(frozen=True)
class Comparison:
    """What two programs, A and B, made of the same cases, in A's order."""

    pairs: Sequence[tuple[Judged, Judged]]

    def _count(self, a_is_right: bool, b_is_right: bool) -> int:
        return sum((a.correct, b.correct) == (a_is_right, b_is_right) for a, b in self.pairs)

    @cached_property
    def both_right(self) -> int:
        """How many cases both get right."""
        return self._count(True, True)

    @cached_property
    def both_wrong(self) -> int:
        """How many cases neither gets right."""
        return self._count(False, False)

    @cached_property
    def only_a(self) -> int:
        """How many cases A alone gets right."""
        return self._count(True, False)

    @cached_property
    def only_b(self) -> int:
        """How many cases B alone gets right."""
        return self._count(False, True)

    @property
    def num_split(self) -> int:
        """How many cases one gets right and the other wrong."""
        return self.only_a + self.only_b

    @property
    def split(self) -> list[tuple[Judged, Judged]]:
        """The cases that one gets right and the other wrong: first those that B loses."""
        apart = [pair for pair in self.pairs if pair[0].correct != pair[1].correct]
        return sorted(apart, key=lambda pair: pair[1].correct)

    @property
    def difference(self) -> float:
        """The accuracy of B less that of A, -1 to 1."""
        return (self.only_b - self.only_a) / len(self.pairs)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference, of the score test of paired proportions.

        Tango, Statistics in Medicine 17 (1998): the differences whose |z| is below 1.96.
        """
        counts = len(self.pairs), self.only_a, self.only_b
        return difference_at(Z, *counts), difference_at(-Z, *counts)

    @cached_property
    def p_value(self) -> float:
        """McNemar's exact two-sided p: of a split at least so uneven, if both are equally good."""
        return mcnemar(self.only_a, self.only_b)

    @property
    def verdict(self) -> Verdict:
        """What B is against A, at a p below 5 %."""
        if self.p_value >= LEVEL:
            return "cannot tell"
        return "better" if self.only_b > self.only_a else "worse"

    @property
    def needed(self) -> int | None:
        """About how many cases like these would tell; None if they do, or lean to no side."""
        if self.verdict != "cannot tell" or self.only_a == self.only_b:
            return None
        split = _needed(abs(self.only_b - self.only_a) / self.num_split)
        return math.ceil(split * len(self.pairs) / self.num_split)

    @property
    def sentence(self) -> str:
        """The verdict in words."""
        if self.verdict != "cannot tell":
            return f"B is {self.verdict} than A"
        told = f"cannot tell with {counted(len(self.pairs), 'case')}"
        if self.needed:
            side = "B" if self.only_b > self.only_a else "A"
            return f"{told}: if {side} leads on as it does here, it takes about {self.needed:,}"
        return f"{told}: neither leads"

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it, the cases that one alone gets right among it."""
        told = {name: getattr(self, name) for name in _TOLD}
        return {"cases": len(self.pairs)} | told | {"split": [_record(*p) for p in self.split]}


def compare(a: Report, b: Report) -> Comparison:
    """Compare what two programs made of the same cases; their order may differ.

    OptionError if their inputs, or what is right for one, are not the same.
    """
    left = defaultdict[tuple[str, str], deque[Judged]](deque)
    for one in b.judged:
        left[one.input, one.right].append(one)
    pairs = []
    for one in a.judged:
        found = left[one.input, one.right]
        if not found:
            raise OptionError(f"B has no case as A's {one.input[:60]!r} -> {one.right[:60]!r}")
        pairs.append((one, found.popleft()))
    if rest := [one for found in left.values() for one in found]:
        more = counted(len(rest), "case")
        raise OptionError(f"B has {more} that A has not, the first {rest[0].input[:60]!r}")
    return Comparison(pairs)


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the exact two-sided p of McNemar's test: a binomial's, of fair coins.

    Twice the probability of at most min(only_a, only_b) heads in only_a + only_b throws, 1 at most.
    """
    num, term, total = only_a + only_b, 1, 1
    for k in range(min(only_a, only_b)):
        term = term * (num - k) // (k + 1)
        total += term
    return min(1.0, 2 * total / (1 << num))


def _needed(lean: float) -> int:
    """Return how many split cases give p = 5 % where |only_a - only_b| is `lean` of them.

    Of McNemar's test with the continuity correction of Edwards, Psychometrika 13 (1948):
    (|only_a - only_b| - 1)² / (only_a + only_b) = Z².
    """
    return math.ceil(((Z + math.sqrt(Z * Z + 4 * lean)) / (2 * lean)) ** 2)


def _record(a: Judged, b: Judged) -> dict[str, Any]:
    keys = ("output", "error", "correct")
    told = ({key: getattr(one, key) for key in keys} for one in (a, b))
    return {"input": a.input, "expected": a.expected} | dict(zip("ab", told, strict=True))
