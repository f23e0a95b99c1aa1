"""The page of a report, and what stands at its head."""

from __future__ import annotations

from datetime import UTC, datetime

from ..decisions import Decisions
from ..gate import Gate, Missed
from ..report import Report
from .charts import draw_interval, draw_reliability, draw_risk
from .failures import show_failures
from .labels import show_labels
from .parts import card, columns, facts, percent, table, text
from .style import STYLE


def html_report(report: Report, *, title: str, gate: Gate | None = None) -> str:
    """Return a report as an HTML page of a few hundred kB at most. OptionError as `Gate.check`."""
    missed = gate.check(report) if gate else []
    badge = ""
    if gate:
        kind, word = ("bad", "✗ gate missed") if missed else ("good", "✓ gate passed")
        badge = f'<span class="badge {kind}">{word}</span>'
    parts = [
        f"<header><h1>{text(title)}</h1>{badge}"
        f'<span class="soft">{datetime.now(UTC):%Y-%m-%d %H:%M} UTC</span></header>',
        _accuracy(report),
        _gate(gate, missed, report) if gate else "",
        show_labels(report),
        _decisions(report.decisions) if report.decisions else "",
        show_failures(report),
    ]
    body = "\n".join(filter(None, parts))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}: {percent(report.accuracy)} right</title>"
        f"<style>{STYLE}</style></head>\n<body><main>\n{body}\n</main></body></html>\n"
    )


def _accuracy(report: Report) -> str:
    low, high = report.interval
    named = {
        "cases": f"{len(report.judged):,}",
        "right": f"{report.num_correct:,}",
        "wrong": f"{len(report.failures):,}",
        "not run": f"{report.num_failed:,}" if report.num_failed else "",
        "cut before their end": f"{report.num_unended:,}" if report.num_unended else "",
        "macro F1": percent(report.macro_f1) if report.scores else "",
        "seconds": f"{report.seconds:,.1f}",
    }
    return card(
        "",
        f'<div class="head"><div><div class="big">{percent(report.accuracy)}</div>'
        f'<p class="soft">accuracy; 95 % interval {percent(low)} to {percent(high)}</p></div>'
        f"{draw_interval(report.accuracy, low, high)}</div>{facts(named)}",
    )


def _gate(gate: Gate, missed: list[Missed], report: Report) -> str:
    conditions = {one.condition for one in missed}
    rows = []
    for one in gate.conditions:
        kind, word = ("bad", "✗ missed") if one in conditions else ("good", "✓ met")
        should = f"{one.operator} {one.show(one.number)}"
        rows.append(
            f'<tr><th scope="row">{text(one.subject)}</th>'
            f"<td>{text(one.show(one.measure(report)))}</td><td>{text(should)}</td>"
            f'<td class="text {kind}">{word}</td></tr>'
        )
    return card("Gate", table(columns("condition", "is", "should be", ""), rows))


def _decisions(decisions: Decisions) -> str:
    bins, error, loss = decisions.bins(), decisions.error, decisions.log_loss
    named = {
        "decided": percent(decisions.coverage),
        "of these wrong": "–" if error is None else percent(error),
        "calibration error": percent(decisions.calibration_error),
        "log loss (nats)": "–" if loss is None else f"{loss:.3f}",
        "in scope": percent(decisions.in_scope),
    }
    rows = [
        f'<tr><th scope="row">{one.low:.2f} to {one.high:.2f}</th><td>{one.num:,}</td>'
        f"<td>{percent(one.said)}</td><td>{percent(one.right)}</td></tr>"
        for one in bins
    ]
    numbers = table(columns("probability", "cases", "mean", "right"), rows)
    reliability = f"{draw_reliability(bins)}<details><summary>The numbers</summary>{numbers}"
    risk = draw_risk(decisions.curve(), decisions.coverage, error)
    pair = card("Reliability", f"{reliability}</details>") + card("Error against coverage", risk)
    return f'{card("How sure it was", facts(named))}<div class="pair">{pair}</div>'
