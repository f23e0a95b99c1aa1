"""`paw-mlx test`: a program against cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import kept_cases
from ..cases import read_cases
from ..files import replacing
from .command import Command
from .common import print_json, print_text, quoted, table
from .editor import write_text
from .opening import open_function
from .options import (
    PATH,
    base_options,
    gate_option,
    json_option,
    max_tokens_option,
    output_options,
)
from .progress_line import unended
from .references import PROGRAM
from .specs import check_writable
from .voice import say, status

if TYPE_CHECKING:
    from ..evaluation import Decisions, Gate, Report

_COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
_MOST_LABELS = 12  # a table beyond this tells nobody anything


@click.command(cls=Command)
@click.argument("program", type=PROGRAM)
@click.argument("cases", type=PATH, required=False)
@gate_option
@click.option("--junit", metavar="FILE", type=PATH, help="Write JUnit XML, for a build server.")
@click.option("--html", metavar="FILE", type=PATH, help="Write a page to look at.")
@max_tokens_option
@json_option
@output_options
@base_options
def command(
    program: str,
    cases: Path | None,
    gate: Gate | None,
    junit: Path | None,
    html: Path | None,
    max_tokens: int | None,
    as_json: bool,
    typed: dict[str, Any],
    base: dict[str, Any],
) -> None:
    """Run PROGRAM on CASES, a JSONL file of rows {"input": …, "output": …}.

    Without CASES it runs on those that are kept with it (`paw-mlx case`).

    An output counts if it equals the row's, both stripped; so does what is said --otherwise. Of
    labels, it also shows how true their probabilities are, how wrong the surest calls are, and, if
    rows have "grade" or "group", how well they are ranked (NDCG). The accuracy comes with its 95%
    interval (Wilson's).

    GATE is conditions METRIC OP NUMBER, parted by commas. OP is >=, >, <= or <. METRIC is accuracy
    (accuracy.low: the interval's end), macro_f1, failed or unended; of a label precision[LABEL],
    recall[LABEL] or f1[LABEL]; where labels have probabilities coverage, error (of what was
    decided), calibration_error or log_loss.
    """
    if cases:
        rows = read_cases(cases)
    else:
        rows = kept_cases.require(program, offline=base["offline"], progress=status)
    from .. import Options
    from ..evaluation import html_report, judge, junit_xml

    for path in filter(None, (junit, html)):
        check_writable(path)
    options = Options(max_tokens)
    fn = open_function(program, **base, **typed)
    if gate:
        gate.check_labels(fn.program.output, rows)
    report = judge(fn, rows, options, on_case=status.counting(len(rows)))
    missed = gate.check(report) if gate else []
    if junit:
        with replacing(junit) as temporary:
            temporary.write_bytes(junit_xml(report, name=program, gate=gate))
    if html:
        write_text(html, html_report(report, title=program, gate=gate))
    if as_json:
        record = {"program_id": fn.program.id} | report.record()
        print_json(record | ({"gate": gate.record(report)} if gate else {}))
    else:
        _show(report)
        for one in missed:
            print_text(f"gate missed: {one.sentence}")
        if gate and not missed:
            print_text(f"gate passed: {gate}")
    if missed:
        raise click.exceptions.Exit(1)


def _show(report: Report) -> None:
    for failure in report.failures:
        if failure.decision and failure.decision.abstained:
            continue
        click.echo(f"input     {quoted(failure.input)}")
        click.echo(f"expected  {quoted(failure.expected)}")
        if failure.error:
            print_text(f"error     {failure.error}\n")
        else:
            cut = "" if failure.is_whole else ", cut before its end"
            click.echo(f"got       {quoted(failure.output)}{cut}\n")
    if report.failures and report.scores:
        if len(report.scores) <= _MOST_LABELS:
            click.echo(_confusion(report) + "\n")
        click.echo(_label_table(report) + "\n")
    if decisions := report.decisions:
        _show_decisions(decisions, report.ndcg)
    share = f"{report.num_correct} of {len(report.judged)}"
    if report.num_unended:
        say(unended(report.num_unended))
    low, high = report.interval
    click.echo(
        f"accuracy {report.accuracy:.1%} ({share}), 95% interval {low:.1%} to {high:.1%}, "
        f"in {report.seconds:.1f} s"
    )


def _show_decisions(decisions: Decisions, ndcg: float | None) -> None:
    parts = [] if decisions.log_loss is None else [f"log loss {decisions.log_loss:.3f}"]
    parts.append(f"calibration error {decisions.calibration_error:.1%}")
    parts.append(f"in scope {decisions.in_scope:.1%}")
    parts += [] if ndcg is None else [f"NDCG {ndcg:.3f}"]
    rows, curve = list[list[str]](), decisions.curve()
    for least in _COVERAGES:
        point = next(point for point in curve if point.coverage >= least - 1e-9)
        row = [f"{point.coverage:.1%}", f"{point.error:.1%}", f"{point.threshold:.4g}"]
        if row not in rows:
            rows.append(row)
    click.echo(f"{', '.join(parts)}\n\n{table([['decided', 'wrong', 'threshold'], *rows])}\n")
    if decisions.coverage < 1:
        wrong = "" if decisions.error is None else f", {decisions.error:.1%} of them wrong"
        click.echo(f"decided {decisions.num_decided} of {len(decisions.pairs)}{wrong}")


def _confusion(report: Report) -> str:
    """Return a table: rows are what is right, columns what was said; the rest shares a column."""
    said = report.confusion()
    columns: list[str | None] = [*report.labels]
    if any(output is None for _, output in said):
        columns.append(None)
    head = ["right \\ said", *("(other)" if column is None else column for column in columns)]
    counts = [[label, *(str(said[label, column]) for column in columns)] for label in report.labels]
    return table([head, *counts])


def _label_table(report: Report) -> str:
    """Return how each label fares; of many, those with the least F1."""
    scores, note = report.scores, ""
    order = [*scores]
    if len(order) > _MOST_LABELS:
        order = sorted(order, key=lambda label: scores[label].f1 or 0.0)[:_MOST_LABELS]
        note = f"\nthe {_MOST_LABELS} of {len(scores):,} labels with the least F1"
    rows = [["label", "cases", "precision", "recall", "F1"]]
    for label in order:
        one = scores[label]
        shares = (one.precision, one.recall, one.f1)
        told = ["-" if share is None else f"{share:.1%}" for share in shares]
        rows.append([label, f"{report.support[label]:,}", *told])
    return f"{table(rows)}{note}\nmacro F1 {report.macro_f1:.1%}"
