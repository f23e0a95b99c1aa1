"""`paw-mlx compare`: two programs on the same cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import kept_cases
from ..cases import read_cases
from .command import Command
from .common import print_json, print_text, quoted, table
from .opening import open_function
from .options import PATH, base_options, json_option, max_tokens_option, output_options
from .references import PROGRAM
from .voice import status

if TYPE_CHECKING:
    from ..evaluation import Comparison, Judged, Report

_MOST_SHOWN = 5  # cases of either side; JSON has all


@click.command(cls=Command)
@click.argument("a", metavar="A", type=PROGRAM)
@click.argument("b", metavar="B", type=PROGRAM)
@click.argument("cases", type=PATH, required=False)
@max_tokens_option
@json_option
@output_options
@base_options
def command(
    a: str,
    b: str,
    cases: Path | None,
    max_tokens: int | None,
    as_json: bool,
    typed: dict[str, Any],
    base: dict[str, Any],
) -> None:
    """Tell whether program B is better than program A on CASES, or on those kept with A.

    CASES is a JSONL file of rows {"input": …, "output": …}. It shows the cases that only one of
    the two gets right, and by McNemar's exact test whether they can be luck: B is "better" or
    "worse" at p < 0.05, and else nobody can tell. The exit code is 1 if B is worse.
    """
    if cases:
        rows = read_cases(cases)
    else:
        rows = kept_cases.require(a, offline=base["offline"], progress=status)
    from .. import Options
    from ..evaluation import compare, judge

    count = status.counting(2 * len(rows))
    functions = [open_function(program, **base, **typed) for program in (a, b)]
    reports = [judge(fn, rows, Options(max_tokens), on_case=count) for fn in functions]
    found = compare(*reports)
    if as_json:
        told = {
            name: {"program_id": fn.program.id, "accuracy": report.accuracy}
            | {"interval": report.interval}
            for name, fn, report in zip("ab", functions, reports, strict=True)
        }
        print_json(told | found.record())
    else:
        _show(found, {f"A  {a}": reports[0], f"B  {b}": reports[1]})
    if found.verdict == "worse":
        raise click.exceptions.Exit(1)


def _show(found: Comparison, reports: dict[str, Report]) -> None:
    for name, wins in (("A", False), ("B", True)):
        pairs = [pair for pair in found.split if pair[1].correct == wins]
        for one, other in pairs[:_MOST_SHOWN]:
            click.echo(f"input     {quoted(one.input)}")
            click.echo(f"expected  {quoted(one.expected)}")
            print_text(f"A         {_said(one)}\nB         {_said(other)}\n")
        if len(pairs) > _MOST_SHOWN:
            click.echo(f"and {len(pairs) - _MOST_SHOWN:,} more that {name} alone gets right\n")
    rows = [["", "right", "accuracy", "95% interval"]]
    for name, report in reports.items():
        low, high = report.interval
        counts = [f"{report.num_correct:,}", f"{report.accuracy:.1%}"]
        rows.append([name, *counts, f"{low:.1%} to {high:.1%}"])
    click.echo(table(rows) + "\n")
    click.echo(
        f"both are right on {found.both_right:,}, A alone on {found.only_a:,}, "
        f"B alone on {found.only_b:,}, neither on {found.both_wrong:,}"
    )
    low, high = (100 * bound for bound in found.interval)
    click.echo(
        f"B less A: {100 * found.difference:+.1f} points, 95% interval {low:+.1f} to {high:+.1f}; "
        f"p = {found.p_value:.3g} (McNemar, exact)"
    )
    click.echo(found.sentence)


def _said(one: Judged) -> str:
    return quoted(one.output) if one.error is None else f"error: {one.error}"
