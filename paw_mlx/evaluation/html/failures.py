"""The wrong cases of a report: by kind, the most frequent first, no more than a page bears."""

from __future__ import annotations

from collections import defaultdict

from ...words import counted
from ..markup import clipped
from ..report import Judged, Report
from .parts import card, percent, text

_MOST = 200
_MOST_OF_A_KIND = 25
_CHARS = 1000  # of an input or an output


def show_failures(report: Report) -> str:
    """Return the wrong cases, each kind to be opened; says so if there are more."""
    kinds = defaultdict[str, list[tuple[int, Judged]]](list)
    labels = set(report.scores)
    for number, one in enumerate(report.judged, 1):
        if not one.correct:
            kinds[_kind(one, labels)].append((number, one))
    parts, num_shown = [], 0
    is_open = " open" if len(kinds) == 1 else ""
    for kind, found in sorted(kinds.items(), key=lambda item: -len(item[1])):
        shown = found[: min(_MOST_OF_A_KIND, _MOST - num_shown)]
        if not shown:
            break
        num_shown += len(shown)
        cases = "".join(_show(number, one) for number, one in shown)
        count = f"{len(found):,}" if len(shown) == len(found) else f"{len(shown)} of {len(found):,}"
        parts.append(
            f'<details{is_open}><summary>{text(kind)}<span class="count">{count}</span></summary>'
            f"{cases}</details>"
        )
    if not parts:
        return card("Wrong cases", '<p class="good">There are none.</p>')
    total = len(report.failures)
    if num_shown < total:
        note = f"{num_shown} of {counted(total, 'wrong case')} stand here, to keep the page small."
        parts.insert(0, f'<p class="soft">{note}</p>')
    return card("Wrong cases", "".join(parts))


def _kind(one: Judged, labels: set[str]) -> str:
    if one.error is not None:
        return "could not be run"
    if one.decision and one.decision.abstained:
        return "abstained"
    if not labels:
        return "wrong" if one.is_whole else "cut before its end"
    return f"{one.right} → {one.output if one.output in labels else '(other)'}"


def _show(number: int, one: Judged) -> str:
    told = {f"case {number:,}": one.input, "expected": one.right}
    told |= {"got": one.output} if one.error is None else {"error": one.error}
    if one.decision:
        told["sure"] = f"{one.decision.label}, {percent(one.decision.probability)}"
    rows = "".join(
        f'<dt>{name}</dt><dd><pre dir="auto">{text(clipped(value, _CHARS))}</pre></dd>'
        for name, value in told.items()
    )
    return f'<dl class="case">{rows}</dl>'
