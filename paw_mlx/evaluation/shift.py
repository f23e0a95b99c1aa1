"""Whether inputs, and what a function says of them, have moved away from its cases.

The same function runs on both, so that inputs are compared with inputs, and nothing is right or
wrong: a shift says that the cases no longer tell how well the function does. (Whether a base's
weights are those that a program was compiled for is another question: `interpreter/drift.py`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, quantiles
from typing import Any

from ..errors import listed
from ..words import counted
from .observed import ABSTAINED, OTHER, Kept, Observed
from .two_samples import (
    counts_p,
    holm,
    smallest_distance,
    smirnov_distance,
    smirnov_p,
    total_variation,
)

LEVEL = 0.01  # of all tests together
MIN_DISTANCE = 0.1  # of lengths and of labels: less is no shift, however sure it is
MIN_SHARE = 0.05  # the same of probabilities, of inputs that fail, of outputs that are cut
_BLIND = 0.5  # if a distance of this would not show, nothing can be told


@dataclass(frozen=True)
class Change:
    """A quantity before and after: a median of lengths, a mean of probabilities, or a share.

    Its `name` is `input_length`, `output_length`, `probability`, `in_scope`, `failed`, `unended` or
    `outputs`, which is many shares: `before` and `after` are None there.
    `distance` is Smirnov's of lengths, the difference of means of probabilities, and the total
    variation of shares. `p` is adjusted for the other quantities (Holm); None if there is but one
    value. It is no shift below a distance of `least`.
    """

    name: str
    before: float | None
    after: float | None
    distance: float
    p: float | None
    sentence: str
    least: float = MIN_DISTANCE

    @property
    def shifted(self) -> bool:
        """Whether it is far enough, and surely enough."""
        return self.p is not None and self.p < LEVEL and self.distance >= self.least

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        told = {"name": self.name, "before": self.before, "after": self.after}
        told |= {"distance": self.distance, "p": self.p, "shifted": self.shifted}
        return told | ({"sentence": self.sentence} if self.shifted else {})


@dataclass(frozen=True)
class Shift:
    """How `num_after` inputs differ from `num_before` cases.

    `shares` are of each output, before and after, the most changed first. A distance of `smallest`
    would have shown.
    """

    changes: Sequence[Change]
    shares: dict[str, tuple[float, float]]
    num_before: int
    num_after: int
    smallest: float

    @classmethod
    def between(cls, before: Observed, after: Observed) -> Shift:
        """Compare what a function made of its cases with what it made of inputs."""
        found = [
            _compare_lengths("input_length", "inputs", before.input_chars, after.input_chars),
            _compare_parts("failed", "inputs fail", before.num_failed, before.num,
                           after.num_failed, after.num),
        ]  # fmt: skip
        counts = _count(before, after)
        if before.labels:
            found += [
                _compare_means("probability", "it is {}: mean probability of its label",
                               "less sure/surer", before.probability, after.probability),
                _compare_means("in_scope", "inputs are {} in scope:",
                               "less/more", before.in_scope, after.in_scope),
            ]  # fmt: skip
        else:
            found += [
                _compare_lengths("output_length", "outputs", before.output_chars,
                                 after.output_chars),
                _compare_parts("unended", "outputs are cut before their end", before.num_unended,
                               before.num_run, after.num_unended, after.num_run),
            ]  # fmt: skip
        shares = {name: (x / before.num_run, y / after.num_run) for name, (x, y) in counts.items()}
        shares = dict(sorted(shares.items(), key=lambda one: -round(abs(one[1][1] - one[1][0]), 9)))
        if counts:
            told = listed([f"{name} {x:.0%} → {y:.0%}" for name, (x, y) in shares.items()], 3)
            a, b = zip(*counts.values(), strict=True)
            found.append(Change("outputs", None, None, total_variation(a, b), counts_p(a, b), told))
        changes = [one for one in found if one]
        adjusted = iter(holm([one.p for one in changes if one.p is not None]))
        changes = [one if one.p is None else replace(one, p=next(adjusted)) for one in changes]
        smallest = smallest_distance(before.num, after.num, LEVEL / max(1, len(changes)))
        return cls(changes, shares, before.num, after.num, max(smallest, MIN_DISTANCE))

    @property
    def shifted(self) -> list[Change]:
        """What has shifted, the farthest first."""
        return sorted((one for one in self.changes if one.shifted), key=lambda one: -one.distance)

    @property
    def verdict(self) -> str:
        """`drift`, `none`, or `cannot tell`: none was found, and few rows would show any."""
        if self.shifted:
            return "drift"
        return "cannot tell" if self.smallest > _BLIND else "none"

    @property
    def sentences(self) -> list[str]:
        """The verdict in words: one, or one for all that has shifted."""
        if self.verdict == "drift":
            return [f"{one.sentence} (p {show_p(one.p)})" for one in self.shifted]
        if self.verdict == "none":
            return [f"no sign of drift: a distance of {self.smallest:.2f} would show"]
        few = counted(self.num_after, "input")
        if self.num_before < self.num_after:
            few = counted(self.num_before, "case")
        return [f"cannot tell with {few}"]

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "verdict": self.verdict,
            "sentences": self.sentences,
            "num_cases": self.num_before,
            "num_inputs": self.num_after,
            "smallest_distance": self.smallest if self.num_before and self.num_after else None,
            "changes": [one.record() for one in self.changes],
            "shares": self.shares,
        }


def show_p(p: float | None) -> str:
    """Return a p-value as people write it, after the p."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _compare(before: Kept, after: Kept) -> tuple[float, float]:
    """Return Smirnov's distance and its p."""
    distance = smirnov_distance(before.values, after.values)
    return distance, smirnov_p(distance, len(before.values), len(after.values))


def _compare_lengths(name: str, noun: str, before: Kept, after: Kept) -> Change | None:
    if not (before.num and after.num):
        return None
    (low, x, high), (low_now, y, high_now) = _quartiles(before), _quartiles(after)
    sentence = (
        f"{noun} are {'longer' if y > x else 'shorter'}: median {x:,.0f} → {y:,.0f} characters"
    )
    if x == y:
        sentence = (
            f"{noun} are of other lengths: half of them {low:,.0f} to {high:,.0f} characters → "
            f"{low_now:,.0f} to {high_now:,.0f}"
        )
    return Change(name, x, y, *_compare(before, after), sentence)


def _quartiles(kept: Kept) -> list[float]:
    return quantiles(kept.values, method="inclusive") if kept.num > 1 else [kept.values[0]] * 3


def _compare_means(name: str, what: str, words: str, before: Kept, after: Kept) -> Change | None:
    """Compare probabilities by their means; `words` are for less and for more.

    The test is Smirnov's, but not the distance, which is large where all are near 1 and differ in
    their last digits.
    """
    if not (before.num and after.num):
        return None
    x, y = fmean(before.values), fmean(after.values)
    less, more = words.split("/")
    sentence = f"{what.format(less if y < x else more)} {x:.1%} → {y:.1%}"
    return Change(name, x, y, abs(x - y), _compare(before, after)[1], sentence, MIN_SHARE)


def _compare_parts(
    name: str, what: str, part: int, num: int, part_now: int, num_now: int
) -> Change | None:
    """Compare the shares of two samples that something holds for."""
    if not (num and num_now):
        return None
    x, y = part / num, part_now / num_now
    p = counts_p((part, num - part), (part_now, num_now - part_now))
    sentence = f"{'more' if y > x else 'fewer'} {what}: {x:.1%} → {y:.1%}"
    return Change(name, x, y, abs(x - y), p, sentence, MIN_SHARE)


def _count(before: Observed, after: Observed) -> dict[str, tuple[int, int]]:
    """Count the outputs of both by their name; what was not said before is `OTHER`."""
    names = before.categories()
    if not (names and before.num_run and after.num_run):
        return {}
    counts = {name: (before.outputs[name], after.outputs[name]) for name in names}
    counts[OTHER] = (0, after.num_run - sum(y for _, y in counts.values()))
    return {n: pair for n, pair in counts.items() if any(pair) or n not in (ABSTAINED, OTHER)}
