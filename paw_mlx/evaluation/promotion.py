"""Whether a program that was trained on may take the place of the one before it.

Both are judged on the same cases. The new one is promoted if it is right on more of them, and
measurably not worse: the lower bound of the difference of accuracies lies above -2 points. The
bound is one-sided, of 99 %, by the score test of paired proportions (Tango, Statistics in
Medicine 17, 1998, 891-908), which keeps its level with few cases, too: of programs that are 2
points worse in truth, at most 1.1 in 100 pass, whatever the number of cases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..words import counted
from .intervals import difference_at, score_z, wilson

MARGIN = 0.02  # of accuracy, which a promoted program may have lost
CONFIDENCE = 0.99
_Z = 2.326348  # of CONFIDENCE, one-sided
_MOST_LOST = 0.25  # of what the old one gets right, where the cases are harder than usual


@dataclass(frozen=True)
class Verdict:
    """Whether the new program is promoted, and why, in a sentence.

    `difference` is of the accuracies, new less old, and `lower_bound` its bound (shares).
    `num_needed` cases, with the shares found, would be enough to tell; None if no number would.
    """

    promoted: bool
    reason: str
    num: int
    only_old: int
    only_new: int
    difference: float
    lower_bound: float
    num_needed: int | None = None


def decide(
    num: int, only_old: int, only_new: int, *, num_old: int, expected: float | None = None
) -> Verdict:
    """Decide by `num` cases, of which so many only the old or only the new program gets right.

    `num_old` cases the old one gets right. `expected` is its accuracy as measured elsewhere: where
    it is much lower here, the cases are mostly its failures, and tell little of what might be lost.
    Then three quarters of what it gets right must be kept, too (Wilson's 95 % bound).
    """
    difference = (only_new - only_old) / num
    bound = lower_bound(num, only_old, only_new)
    needed = None
    passed = False
    counts = (
        f"of {counted(num, 'case')} it is right on {only_new:,} that the old one gets wrong, "
        f"and wrong on {only_old:,} that it gets right"
    )
    if only_new <= only_old:
        reason = f"{counts}: not better"
    elif bound <= -MARGIN:
        needed = count_needed(num, only_old, only_new)
        enough = (
            f"about {needed:,} cases would do if it goes on so" if needed else "it may be worse"
        )
        reason = f"{counts}: too few to tell, {bound * 100:+.1f} points are possible; {enough}"
    elif expected and _is_harder(num, num_old, expected) and _may_lose(only_old, num_old):
        reason = (
            f"the old one is right on {num_old:,} of these {counted(num, 'case')}, and on "
            f"{expected:.0%} of others: they are mostly its failures, and do not tell what is lost"
        )
    else:
        passed = True
        reason = f"{counts}: {difference * 100:+.1f} points, at least {bound * 100:+.1f}"
    return Verdict(passed, reason, num, only_old, only_new, difference, bound, needed)


def hopeless(num: int, num_old: int) -> Verdict | None:
    """Return why no program could be promoted, if even one that is right on all cases could not."""
    wrong, needed = num - num_old, None
    if num == 0:
        reason = "every case was trained on before, and none is left to judge by: keep new ones"
    elif wrong == 0:
        reason = f"the old one is right on all {counted(num, 'case')}: there is nothing to gain"
    elif lower_bound(num, 0, wrong) <= -MARGIN:
        needed = count_needed(num, 0, wrong)
        reason = (
            f"the old one is right on {num_old:,} of {counted(num, 'case')}: even with all of them "
            f"right, that is too few to tell; about {needed:,} such cases would be enough"
        )
    else:
        return None
    return Verdict(False, reason, num, 0, 0, 0.0, -1.0, needed)


def lower_bound(num: int, only_old: int, only_new: int) -> float:
    """Return the lower bound of the difference of accuracies, new less old, -1 to 1."""
    return difference_at(_Z, num, only_old, only_new)


def count_needed(num: int, only_old: int, only_new: int) -> int | None:
    """Return how many cases with these shares give a bound above -MARGIN; None if no number does.

    The statistic grows as the square root of the number of cases.
    """
    z = score_z(num, only_old, only_new, -MARGIN)
    return math.floor(num * (_Z / z) ** 2) + 1 if z > 0 else None


def _is_harder(num: int, num_old: int, expected: float) -> bool:
    return wilson(num_old, num)[1] < expected


def _may_lose(only_old: int, num_old: int) -> bool:
    return num_old == 0 or wilson(only_old, num_old)[1] > _MOST_LOST
