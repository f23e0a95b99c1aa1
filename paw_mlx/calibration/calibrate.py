"""A function on cases, once, and what is found by that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ..cases import Case
from ..errors import OptionError
from ..evaluation import Judged, Report, judge
from ..functions import Function
from ..output import Decision, Labels, Probabilities
from .temperature import HIGHEST, LEAST, Fit, Rows, fit_temperature
from .threshold import Threshold, check_promise, choose_threshold


@dataclass(frozen=True)
class Calibration:
    """What was found, and the report of the calls at temperature 1 and without a threshold."""

    fit: Fit
    threshold: Threshold
    report: Report

    @property
    def num_strange(self) -> int:
        """How many cases have an output that is none of the labels."""
        pairs = self.report.decisions.pairs if self.report.decisions else ()
        return sum(right not in decision.probabilities for decision, right in pairs)

    def apply(self, labels: Labels, otherwise: str | None = None) -> Labels:
        """Return labels with what was found; `otherwise` stays theirs if it is not given."""
        return replace(
            labels,
            temperature=self.fit.temperature,
            threshold=self.threshold.value,
            otherwise=labels.otherwise if otherwise is None else otherwise,
        )


def calibrate(
    function: Function,
    cases: Iterable[Case],
    *,
    max_error: float = 0.02,
    confidence: float = 0.9,
    on_case: Callable[[Judged], None] | None = None,
) -> Calibration:
    """Run a function whose outputs are labels on cases; fit a temperature, choose a threshold.

    `max_error` and `confidence` are `choose_threshold`'s. A case whose output is none of the labels
    counts as wrong, whatever is said. OptionError if there are no cases, none of them could be run,
    or the function's outputs are of another type.
    """
    check_promise(max_error, confidence)
    labels = function.program.output
    if not isinstance(labels, Labels):
        raise OptionError(
            f"labels are calibrated, and the program's output is {labels.kind}",
            hint="Say which they are: --labels A,B,…",
        )
    # The higher the temperature, the more is known of labels that are nowhere near.
    hot = replace(labels, temperature=HIGHEST, threshold=None)
    function = Function(function.runner, replace(function.program, output=hot))
    report = _cool(
        judge(function, cases, on_case=on_case), replace(hot, temperature=1, priors=None)
    )
    if not report.decisions:
        first = report.judged[0].error
        raise OptionError(f"none of the {len(report.judged)} cases could be run: {first}")
    return Calibration(*fit_and_choose(Rows.of(report), max_error, confidence), report)


def fit_and_choose(rows: Rows, max_error: float, confidence: float) -> tuple[Fit, Threshold]:
    """Fit a temperature to calls at temperature 1, and choose a threshold with it.

    Of two labels all rows serve for both; of more, a third is for the temperature.
    """
    fitting = choosing = rows
    if rows.logs.shape[1] > 2:
        fitting, choosing = rows.split(3)
    fit = fit_temperature(fitting)
    calls = choosing.calls(fit.temperature)
    return fit, choose_threshold(*calls, max_error, confidence)


def _cool(report: Report, labels: Labels) -> Report:
    """Return a report of labels that were asked at HIGHEST as if that had been at temperature 1."""

    def cool(decision: Decision) -> Decision:
        logs = [HIGHEST * math.log(max(p, LEAST)) for p in decision.probabilities.values()]
        shares = labels.shares(logs)
        told = Probabilities(labels, shares)
        return replace(decision, probability=told[decision.label], probabilities=told)

    judged = [
        replace(one, decision=cool(one.decision)) if one.decision else one for one in report.judged
    ]
    return replace(report, judged=judged)
