"""Cases as a function left them: right or wrong, and how often."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from ..cases import Case
from ..errors import OptionError, PawError
from ..functions import Function, as_input
from ..output import Decision
from ..rows.flow import outcomes
from ..runner import Options, Result
from .decisions import Decisions
from .intervals import wilson
from .ranking import ndcg

MOST_LABELS = 12  # of outputs that nobody declared to be labels: more are text


@dataclass(frozen=True)
class Judged:
    """A case as it stands, and what came of it; `error` says why it could not be run.

    `finish_reason` is the result's: an output of `length` was cut before its end. `decision` is
    there if the output is one of some labels; one that abstained is judged by what it said.
    `group` and `grade` are the case's.
    """

    input: str
    expected: str
    output: str
    error: str | None = None
    finish_reason: str | None = None
    decision: Decision | None = None
    group: str | None = None
    grade: float | None = None

    @classmethod
    def of(cls, case: Case, answer: str | Result | PawError) -> Judged:
        """Judge one answer."""
        judged = cls(case.input, case.output, "", group=case.group, grade=case.grade)
        if isinstance(answer, PawError):
            return replace(judged, error=str(answer))
        if isinstance(answer, str):
            return replace(judged, output=answer.strip())
        return replace(
            judged,
            output=answer.text.strip(),
            finish_reason=answer.finish_reason,
            decision=answer.decision,
        )

    @property
    def right(self) -> str:
        """The output that is right: the expected one, stripped."""
        return self.expected.strip()

    @property
    def correct(self) -> bool:
        """Whether the output is the right one."""
        return self.error is None and self.output == self.right

    @property
    def is_whole(self) -> bool:
        """Whether the output was not cut before its end."""
        return self.finish_reason != "length"

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        told = asdict(replace(self, decision=None))
        for name in ("decision", "group", "grade"):
            if told[name] is None:
                del told[name]
        return told | ({"decision": self.decision.record()} if self.decision else {})


@dataclass(frozen=True)
class LabelScore:
    """How one label fares; a share of nothing is None."""

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Report:
    """What a function made of cases, in their order, and the seconds it took."""

    judged: Sequence[Judged]
    seconds: float = 0.0

    @property
    def num_correct(self) -> int:
        """How many cases are right."""
        return sum(one.correct for one in self.judged)

    @property
    def num_failed(self) -> int:
        """How many cases could not be run."""
        return sum(one.error is not None for one in self.judged)

    @property
    def num_unended(self) -> int:
        """How many outputs were cut before their end."""
        return sum(not one.is_whole for one in self.judged)

    @property
    def accuracy(self) -> float:
        """The share of cases that are right, 0 to 1."""
        return self.num_correct / len(self.judged)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(self.num_correct, len(self.judged))

    @property
    def failures(self) -> list[Judged]:
        """The cases that are wrong, errors among them."""
        return [one for one in self.judged if not one.correct]

    @property
    def labels(self) -> list[str]:
        """The outputs that are right for some case, sorted."""
        return sorted(self.support)

    @cached_property
    def decisions(self) -> Decisions | None:
        """What is known of calls that chose among labels; None if none did."""
        pairs = [(one.decision, one.right) for one in self.judged if one.decision]
        return Decisions(pairs) if pairs else None

    @property
    def ndcg(self) -> float | None:
        """The mean NDCG of the groups, ranked by the expected place in the order of the labels.

        A case's grade is its own, or without any its right label's place from the last (0). A
        case that could not be run is ranked last. None if cases have neither grade nor group.
        """
        if (decisions := self.decisions) is None:
            return None
        labels = reversed(list(decisions.pairs[0][0].probabilities))
        by_label = {label: place for place, label in enumerate(labels)}
        graded = any(one.grade is not None for one in self.judged)
        groups: dict[str | None, list[tuple[float, float]]] = {}
        for one in self.judged:
            if (one.grade if graded else one.group) is not None:
                score = one.decision.score if one.decision else -1.0
                grade = by_label.get(one.right, 0) if one.grade is None else one.grade
                groups.setdefault(one.group, []).append((score, grade))
        return ndcg(groups.values())

    def confusion(self) -> Counter[tuple[str, str | None]]:
        """Count (right, output); an output that is no label, or an error, is None."""
        labels = set(self.labels)

        def said(one: Judged) -> str | None:
            return one.output if one.error is None and one.output in labels else None

        return Counter((one.right, said(one)) for one in self.judged)

    @cached_property
    def support(self) -> Counter[str]:
        """How many cases each output is right for."""
        return Counter(one.right for one in self.judged)

    @cached_property
    def _said(self) -> Counter[str]:
        return Counter(one.output for one in self.judged if one.error is None)

    @cached_property
    def _hit(self) -> Counter[str]:
        return Counter(one.right for one in self.judged if one.correct)

    def label(self, label: str) -> LabelScore:
        """Score one label against all others."""
        right, said, there = self._hit[label], self._said[label], self.support[label]
        return LabelScore(
            precision=right / said if said else None,
            recall=right / there if there else None,
            f1=2 * right / (said + there) if said + there else None,
        )

    @property
    def scores(self) -> dict[str, LabelScore]:
        """The scores of `labels`; none where outputs are no labels, but text."""
        is_labelled = len(self.support) <= MOST_LABELS or self.decisions is not None
        return {label: self.label(label) for label in self.labels} if is_labelled else {}

    @property
    def macro_f1(self) -> float:
        """The mean F1 of `labels`, 0 to 1, each counting alike (Yang and Liu, SIGIR 1999)."""
        scores = [self.label(label).f1 or 0.0 for label in self.labels]
        return math.fsum(scores) / len(scores)

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it: the failures, and of all cases the figures."""
        told: dict[str, Any] = {
            "cases": len(self.judged),
            "accuracy": self.accuracy,
            "interval": self.interval,
            "num_correct": self.num_correct,
            "num_failed": self.num_failed,
            "num_unended": self.num_unended,
            "seconds": self.seconds,
        }
        if scores := self.scores:
            labels = {
                name: asdict(one) | {"cases": self.support[name]} for name, one in scores.items()
            }
            told |= {"labels": labels, "macro_f1": self.macro_f1}
        if decisions := self.decisions:
            told |= {"decisions": decisions.record(), "ndcg": self.ndcg}
        return told | {"failures": [failure.record() for failure in self.failures]}


def judge(
    function: Function,
    cases: Iterable[Case],
    options: Options | None = None,
    *,
    on_case: Callable[[Judged], None] | None = None,
) -> Report:
    """Run a function on cases and judge every output; `on_case` hears of each as it is judged.

    OptionError if there are no cases.
    """
    cases = list(cases)
    if not cases:
        raise OptionError("there are no cases to judge by")
    start, judged = time.perf_counter(), list[Judged]()
    rows = ((case, as_input(case.input)) for case in cases)
    with closing(outcomes(function.runner, function.program, rows, options or Options())) as found:
        for case, answer, _ in found:
            judged.append(Judged.of(case, answer))
            if on_case:
                on_case(judged[-1])
    return Report(judged, time.perf_counter() - start)
