"""The figures of a report by the names that a gate knows them by."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from .decisions import Decisions
from .report import Report

Value = float | str  # a figure, or in words why there is none


class Metric(NamedTuple):
    """A figure of a report, or of one of its labels: a share (0 to 1), or nats."""

    of: Callable[[Report, str], Value]
    of_label: bool = False
    is_share: bool = True


def _of_label(name: str, nothing: str) -> Metric:
    def measure(report: Report, label: str) -> Value:
        value: float | None = getattr(report.label(label), name)
        return nothing.format(label) if value is None else value

    return Metric(measure, of_label=True)


def _of_decisions(
    of: Callable[[Decisions], float | None], nothing: str = "", *, is_share: bool = True
) -> Metric:
    def measure(report: Report, _: str) -> Value:
        if report.decisions is None:
            return "no case was decided among labels"
        value = of(report.decisions)
        return nothing if value is None else value

    return Metric(measure, is_share=is_share)


METRICS = {
    "accuracy": Metric(lambda report, _: report.accuracy),
    "accuracy.low": Metric(lambda report, _: report.interval[0]),
    "precision": _of_label("precision", "{} was never said"),
    "recall": _of_label("recall", "{} is right for no case"),
    "f1": _of_label("f1", "{} was never said and is right for no case"),
    "macro_f1": Metric(lambda report, _: report.macro_f1),
    "coverage": _of_decisions(lambda found: found.coverage),
    "error": _of_decisions(lambda found: found.error, "every call abstained"),
    "calibration_error": _of_decisions(lambda found: found.calibration_error),
    "log_loss": _of_decisions(
        lambda found: found.log_loss, "no right output is one of the labels", is_share=False
    ),
    "unended": Metric(lambda report, _: report.num_unended / len(report.judged)),
    "failed": Metric(lambda report, _: report.num_failed / len(report.judged)),
}
KNOWN = ", ".join(f"{name}[LABEL]" if one.of_label else name for name, one in METRICS.items())
