"""`paw-mlx test`: a program against cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..cases import read_cases
from .command import Command
from .common import print_json, table
from .options import PATH, base_options, json_option, max_tokens_option, output_options
from .progress_line import unended
from .voice import say, status

if TYPE_CHECKING:
    from ..evaluation import Decisions, Report

_COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
_MOST_LABELS = 12  # a confusion table beyond this tells nobody anything


@click.command(cls=Command)
@click.argument("program")
@click.argument("cases", type=PATH)
@click.option(
    "--min-accuracy",
    type=click.FloatRange(0, 1),
    help="Exit with 1 below this accuracy (0 to 1).",
)
@max_tokens_option
@json_option
@output_options
@base_options
def command(
    program: str,
    cases: Path,
    min_accuracy: float | None,
    max_tokens: int | None,
    as_json: bool,
    typed: dict[str, Any],
    base: dict[str, Any],
) -> None:
    """Run PROGRAM on CASES, a JSONL file of rows {"input": …, "output": …}.

    An output counts if it equals the row's, both stripped; so does what is said --otherwise. Of
    labels, it also shows how true their probabilities are, how wrong the surest calls are, and, if
    rows have "grade" or "group", how well they are ranked (NDCG).
    """
    rows = read_cases(cases)
    from .. import Options, function
    from ..evaluation import judge

    options = Options(max_tokens)
    fn = function(program, **base, **typed)
    report = judge(fn, rows, options, on_case=status.counting(len(rows)))
    accuracy = report.accuracy
    if as_json:
        record = {"program_id": fn.program.id, "accuracy": accuracy, "cases": len(rows)}
        record |= {"num_unended": report.num_unended, "seconds": report.seconds}
        if decisions := report.decisions:
            record |= {"decisions": decisions.record(), "ndcg": report.ndcg}
        print_json(record | {"failures": [failure.record() for failure in report.failures]})
    else:
        _show(report)
    if min_accuracy is not None and accuracy < min_accuracy:
        raise click.exceptions.Exit(1)


def _show(report: Report) -> None:
    for failure in report.failures:
        if failure.decision and failure.decision.abstained:
            continue
        click.echo(f"input     {json.dumps(failure.input, ensure_ascii=False)}")
        click.echo(f"expected  {json.dumps(failure.expected, ensure_ascii=False)}")
        if failure.error:
            click.echo(f"error     {failure.error}\n")
        else:
            cut = "" if failure.is_whole else ", cut before its end"
            click.echo(f"got       {json.dumps(failure.output, ensure_ascii=False)}{cut}\n")
    if report.failures and len(report.labels) <= _MOST_LABELS:
        click.echo(_confusion(report) + "\n")
    if decisions := report.decisions:
        _show_decisions(decisions, report.ndcg)
    share = f"{report.num_correct} of {len(report.judged)}"
    if report.num_unended:
        say(unended(report.num_unended))
    click.echo(f"accuracy {report.accuracy:.1%} ({share}) in {report.seconds:.1f} s")


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
