"""A gate: what a report has to hold before a program is relied upon.

    accuracy >= 95%, recall[ALERT] >= 0.98, failed <= 0

A metric without a value (the recall of a label that no case has) meets nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..cases import Case
from ..errors import OptionError, listed
from ..output import Labels, Output
from .gate_text import read_gate, write_label
from .metrics import METRICS, Value
from .report import Report

_NEAR = 1e-12  # a rounding; shares of up to a million cases differ by more
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda value, number: value >= number - _NEAR,
    "<=": lambda value, number: value <= number + _NEAR,
    ">": lambda value, number: value > number + _NEAR,
    "<": lambda value, number: value < number - _NEAR,
}


@dataclass(frozen=True)
class Condition:
    """A metric, of a label where it is one of a label's, and the number that bounds it."""

    metric: str
    label: str
    operator: str
    number: float

    def __str__(self) -> str:
        return f"{self.subject} {self.operator} {self.show(self.number)}"

    @property
    def subject(self) -> str:
        """What is measured, as a gate has it: `recall[ALERT]`."""
        of_label = METRICS[self.metric].of_label
        return f"{self.metric}[{write_label(self.label)}]" if of_label else self.metric

    def measure(self, report: Report) -> Value:
        """Return the figure, a share (0 to 1) or nats, or in words why there is none."""
        return METRICS[self.metric].of(report, self.label)

    def is_met(self, value: Value) -> bool:
        """Whether a figure is as it should be; what has none is not."""
        return not isinstance(value, str) and _OPERATORS[self.operator](value, self.number)

    def show(self, value: Value) -> str:
        """Return a figure with as many digits as tell it from the condition's number."""
        if isinstance(value, str):
            return f"not known, since {value},"
        factor, unit, digits = (100, " %", 1) if METRICS[self.metric].is_share else (1, "", 3)
        is_near = abs(value - self.number) <= _NEAR
        while digits < 12:
            shown, bound = (f"{factor * each:.{digits}f}" for each in (value, self.number))
            is_exact = abs(float(bound) - factor * self.number) < 100 * _NEAR
            if is_exact and (is_near or shown != bound):
                break
            digits += 1
        return f"{factor * value:.{digits}f}{unit}"


@dataclass(frozen=True)
class Missed:
    """A condition that a report does not meet, and the figure, or in words why there is none."""

    condition: Condition
    value: Value

    @property
    def sentence(self) -> str:
        """What is, and what should be: "recall[ALERT] is 93.1 % and should be >= 98.0 %"."""
        one = self.condition
        should = f"{one.operator} {one.show(one.number)}"
        return f"{one.subject} is {one.show(self.value)} and should be {should}"


@dataclass(frozen=True)
class Gate:
    """Conditions that all have to be met."""

    conditions: tuple[Condition, ...]

    @classmethod
    def parse(cls, text: str) -> Gate:
        """Read a gate (`gate_text` says how it is written); OptionError says where it is none."""
        return cls(tuple(Condition(*written) for written in read_gate(text)))

    def __str__(self) -> str:
        return ", ".join(map(str, self.conditions))

    def check_labels(self, output: Output, cases: Iterable[Case]) -> None:
        """Raise OptionError, before a case is run, for a label that nothing can be judged by.

        It is none of the program's, and right for no case.
        """
        chosen = output.labels if isinstance(output, Labels) else ()
        self._check_known([*chosen, *sorted({case.output.strip() for case in cases})])

    def check(self, report: Report) -> list[Missed]:
        """Return the conditions that a report does not meet; none if it passes.

        OptionError for a label that is neither right for a case nor one of the program's.
        """
        chosen = report.decisions.pairs[0][0].probabilities if report.decisions else ()
        self._check_known([*chosen, *report.labels])
        values = [(one, one.measure(report)) for one in self.conditions]
        return [Missed(one, value) for one, value in values if not one.is_met(value)]

    def record(self, report: Report) -> list[dict[str, Any]]:
        """Return as JSON has it, of each condition, its figure (null: none) and whether it is met.

        Errors are those of `check`.
        """
        missed = {one.condition: one for one in self.check(report)}
        records = []
        for one in self.conditions:
            value = one.measure(report)
            told = {"condition": str(one), "value": None if isinstance(value, str) else value}
            told |= {"met": one not in missed}
            records.append(told | ({"reason": missed[one].sentence} if one in missed else {}))
        return records

    def _check_known(self, labels: Iterable[str]) -> None:
        known = dict.fromkeys(labels)
        for one in self.conditions:
            if METRICS[one.metric].of_label and one.label not in known:
                there = f"the labels are {listed([*known], 12)}" if known else "there is no case"
                raise OptionError(f"the gate asks for {one.subject}, and {there}")
