"""What was taken for what, and how each label fares."""

from __future__ import annotations

from ..report import Report
from .parts import card, columns, label_cell, percent, table

_MOST_LABELS = 25  # of a matrix
_MOST_ROWS = 40


def show_labels(report: Report) -> str:
    """Return the matrix of confusions, or the most frequent ones, and the labels' scores."""
    if not (scores := report.scores):
        return ""
    order, note = [*scores], ""
    if len(order) > _MOST_ROWS:
        order = sorted(order, key=lambda label: scores[label].f1 or 0.0)[:_MOST_ROWS]
        note = f'<p class="soft">The {_MOST_ROWS} of {len(scores):,} with the least F1.</p>'
    rows = []
    for label in order:
        one = scores[label]
        cells = "".join(map(_score, (one.precision, one.recall, one.f1)))
        rows.append(f"<tr>{label_cell(label)}<td>{report.support[label]:,}</td>{cells}</tr>")
    fared = table(columns("label", "cases", "precision", "recall", "F1"), rows)
    taken = _matrix(report) if len(scores) <= _MOST_LABELS else _confusions(report)
    return f'<div class="pair">{taken}{card("How each label fares", fared + note)}</div>'


def _matrix(report: Report) -> str:
    said = report.confusion()
    outputs: list[str | None] = [*report.labels]
    if any(output is None for _, output in said):
        outputs.append(None)
    rows = []
    for label in report.labels:
        cells = ""
        for output in outputs:
            number = said[label, output]
            share = 0.08 + 0.42 * number / report.support[label]  # light enough to be written on
            kind = "none" if not number else "right" if output == label else ""
            cells += f'<td class="{kind}" style="--share:{share:.2f}">{number:,}</td>'
        rows.append(f"<tr>{label_cell(label)}{cells}</tr>")
    head = columns("right \\ said") + [label_cell(output, "col") for output in outputs]
    note = '<p class="soft">A row is what is right, and its color the share of that row.</p>'
    return card("What was taken for what", table(head, rows, "matrix") + note)


def _confusions(report: Report) -> str:
    found = [(pair, num) for pair, num in report.confusion().most_common() if pair[0] != pair[1]]
    rows = [
        f"<tr>{label_cell(right)}{label_cell(said)}<td>{num:,}</td></tr>"
        for (right, said), num in found[:_MOST_LABELS]
    ]
    title = "What was most often taken for what"
    return card(title, table(columns("right", "said", "cases"), rows)) if rows else ""


def _score(share: float | None) -> str:
    if share is None:
        return "<td>–</td>"
    return f'<td class="bar" style="--share:{share:.1%}">{percent(share)}</td>'
