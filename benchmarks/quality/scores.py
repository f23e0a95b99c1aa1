"""Answers as the rows of a report: by set, method, and group of functions.

Cases of one function are right or wrong together, so the 95 % interval of an accuracy comes of
drawing whole functions anew (a cluster bootstrap, seeded). It is never narrower than Wilson's of
the cases, which counts where functions differ too little to be drawn, as where all are wrong. A
gain is the difference to another method on the same cases, its interval by the same draws. Draws
of fewer than ten functions say too little: a gain and a balanced accuracy then have no interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from paw_mlx.benchmarks.accuracy.study import scores
from paw_mlx.benchmarks.quality.questions import SETS
from paw_mlx.benchmarks.quality.study import Answered
from paw_mlx.evaluation import Judged

_DRAWS = 4000
_FEW = 10  # functions
_METHODS = ("bare", "fixed", "compiled")  # in the order of a report; then what is trained
# What a method has to beat: the first of these that was asked.
_BESIDES: dict[str, tuple[str, ...]] = {
    "bare": (),
    "fixed": ("bare",),
    "compiled": ("fixed", "bare"),
}


def rows(answered: Sequence[Answered], seed: int) -> list[dict[str, Any]]:
    """Return a row for each set, method and group, in that order.

    `num` cases of `functions`, as `accuracy.study.scores` has them. `balanced` is the mean recall
    of the two labels, over the `arbitrary` functions whose labels say nothing by themselves. `gain`
    is in shares of 1, over the method `gain_over`. Both have ends, `_low` and `_high`, or null.
    """
    found: dict[str, dict[str, list[Answered]]] = {}
    for each in answered:
        found.setdefault(each.asked.set, {}).setdefault(each.method, []).append(each)
    made: list[dict[str, Any]] = []
    for name in sorted(found, key=SETS.index):
        methods = found[name]
        for method in sorted(methods, key=_place):
            besides = _BESIDES.get(method, ("compiled",))
            over = next((other for other in besides if other in methods), None)
            for group, part in _groups(methods[method]):
                row = {"set": name, "method": method, "group": group} | _row(part, seed)
                seconds = [each.seconds for each in part if each.seconds is not None]
                if seconds and group == "all":
                    row["seconds"] = sum(seconds)
                if over:
                    row |= {"gain_over": over} | _gain(part, methods[over], seed)
                made.append(row)
    return made


def _place(method: str) -> tuple[int, int, str]:
    """Where a method stands: tuned-5 before trained-5, and both before tuned-20."""
    if method in _METHODS:
        return _METHODS.index(method), 0, method
    name, _, num = method.partition("-")
    return len(_METHODS), int(num), "" if name == "tuned" else name


def _groups(answered: Sequence[Answered]) -> Iterator[tuple[str, list[Answered]]]:
    """All functions, then those of each family, and of each kind."""
    yield "all", list(answered)
    for sort in ("family", "kind"):

        def group(each: Answered, sort: str = sort) -> str:
            return f"{sort}: {getattr(each.asked.function, sort)}"

        for name, part in groupby(sorted(answered, key=group), group):
            yield name, list(part)


def _row(answered: Sequence[Answered], seed: int) -> dict[str, Any]:
    row = {"functions": len(answered)} | scores([one for each in answered for one in each.judged])
    low, high = _interval([_num_right(each.judged) for each in answered], _sizes(answered), seed)
    row["low"], row["high"] = min(row["low"], low), max(row["high"], high)
    recalls = [_balanced(each.judged) for each in answered if each.asked.is_arbitrary]
    known = [recall for recall in recalls if recall is not None]
    if known:
        row |= {"arbitrary": len(known), "balanced": float(np.mean(known))}
        row |= _ends("balanced", known, [1] * len(known), seed)
    return row


def _gain(answered: Sequence[Answered], others: Sequence[Answered], seed: int) -> dict[str, Any]:
    by_name = {other.asked.function.name: other.judged for other in others}
    differences = []
    for each in answered:
        kept = {one.input for one in each.judged}
        same = [one for one in by_name[each.asked.function.name] if one.input in kept]
        differences.append(_num_right(each.judged) - _num_right(same))
    sizes = _sizes(answered)
    gain = sum(differences) / sum(sizes)
    return {"gain": gain} | _ends("gain", differences, sizes, seed)


def _ends(
    name: str, tops: Sequence[float], bottoms: Sequence[int], seed: int
) -> dict[str, float | None]:
    """The ends of a figure's interval under its name; None of few functions."""
    ends = _interval(tops, bottoms, seed) if len(tops) >= _FEW else (None, None)
    return dict(zip((f"{name}_low", f"{name}_high"), ends, strict=True))


def _interval(tops: Sequence[float], bottoms: Sequence[int], seed: int) -> tuple[float, float]:
    """Return the middle 95 % of sum(tops) / sum(bottoms), over draws of as many of both at once."""
    drawn = np.random.default_rng(seed).integers(0, len(tops), (_DRAWS, len(tops)))
    shares = np.array(tops, float)[drawn].sum(1) / np.array(bottoms, float)[drawn].sum(1)
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)


def _num_right(judged: Sequence[Judged]) -> int:
    return sum(one.correct for one in judged)


def _sizes(answered: Sequence[Answered]) -> list[int]:
    return [len(each.judged) for each in answered]


def _balanced(judged: Sequence[Judged]) -> float | None:
    """The mean recall of two labels; None where only one of them is right for some case."""
    by_label: dict[str, list[bool]] = {}
    for one in judged:
        by_label.setdefault(one.right, []).append(one.correct)
    if len(by_label) != 2:
        return None
    return float(np.mean([np.mean(found) for found in by_label.values()]))
