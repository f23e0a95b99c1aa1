"""`paw-mlx test`: a program against cases."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..cases import read_cases
from .command import Command
from .common import print_json, table
from .options import PATH, base_options, json_option, max_tokens_option
from .progress_line import unended
from .voice import say, status

if TYPE_CHECKING:
    from ..evaluation import Report

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
@base_options
def command(
    program: str,
    cases: Path,
    min_accuracy: float | None,
    max_tokens: int | None,
    as_json: bool,
    base: dict[str, Any],
) -> None:
    """Run PROGRAM on CASES, a JSONL file of rows {"input": …, "output": …}.

    An output counts if it equals the row's, both stripped.
    """
    rows = read_cases(cases)
    from .. import Options, function
    from ..evaluation import judge

    options = Options(max_tokens)
    fn = function(program, **base)
    num_done = count(1)
    report = judge(fn, rows, options, on_case=lambda _: status.advance(next(num_done), len(rows)))
    accuracy = report.accuracy
    if as_json:
        record = {"program_id": fn.program.id, "accuracy": accuracy, "cases": len(rows)}
        record |= {"num_unended": report.num_unended, "seconds": report.seconds}
        print_json(record | {"failures": [asdict(failure) for failure in report.failures]})
    else:
        _show(report)
    if min_accuracy is not None and accuracy < min_accuracy:
        raise click.exceptions.Exit(1)


def _show(report: Report) -> None:
    for failure in report.failures:
        click.echo(f"input     {json.dumps(failure.input, ensure_ascii=False)}")
        click.echo(f"expected  {json.dumps(failure.expected, ensure_ascii=False)}")
        if failure.error:
            click.echo(f"error     {failure.error}\n")
        else:
            cut = "" if failure.is_whole else ", cut before its end"
            click.echo(f"got       {json.dumps(failure.output, ensure_ascii=False)}{cut}\n")
    if report.failures and len(report.labels) <= _MOST_LABELS:
        click.echo(_confusion(report) + "\n")
    share = f"{report.num_correct} of {len(report.judged)}"
    if report.num_unended:
        say(unended(report.num_unended))
    click.echo(f"accuracy {report.accuracy:.1%} ({share}) in {report.seconds:.1f} s")


def _confusion(report: Report) -> str:
    """Return a table: rows are what is right, columns what was said; the rest shares a column."""
    said = report.confusion()
    columns: list[str | None] = [*report.labels]
    if any(output is None for _, output in said):
        columns.append(None)
    head = ["right \\ said", *("(other)" if column is None else column for column in columns)]
    counts = [[label, *(str(said[label, column]) for column in columns)] for label in report.labels]
    return table([head, *counts])
