"""`paw-mlx drift`: whether inputs have moved away from a program's cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import kept_cases
from ..errors import PawError
from ..rows.flow import Outcome
from ..rows.formats import open_reader
from ..rows.row import Reader
from ..rows.tally import Tally
from .command import Command
from .common import print_json, print_text, printable, table
from .opening import open_function
from .options import (
    PATH,
    base_options,
    batch_option,
    json_option,
    max_tokens_option,
    output_options,
    overflow_option,
)
from .progress_line import ProgressLine
from .references import FILE, PROGRAM
from .rows import input_options, open_files
from .voice import status

if TYPE_CHECKING:
    from ..evaluation.shift import Shift

_MOST_OUTPUTS = 12  # shown
_SHOWN = {
    "input_length": ("median input length", "{:,.0f}"),
    "output_length": ("median output length", "{:,.0f}"),
    "probability": ("mean probability", "{:.1%}"),
    "in_scope": ("mean in scope", "{:.1%}"),
    "failed": ("failed", "{:.1%}"),
    "unended": ("cut before the end", "{:.1%}"),
    "outputs": ("outputs", "{}"),
}


@click.command(cls=Command)
@click.argument("program", type=PROGRAM)
@click.argument("inputs", metavar="[INPUTS]...", nargs=-1, type=FILE)
@click.option(
    "--cases", metavar="FILE", type=PATH,
    help="Compare with these rows instead; they need no outputs.",
)  # fmt: skip
@click.option("--cases-field", metavar="NAME", help="Which of FILE holds the input.")
@click.option("--fail", is_flag=True, help="Exit with 1 on drift.")
@input_options
@max_tokens_option
@overflow_option
@batch_option
@json_option
@output_options
@base_options
def command(
    program: str,
    inputs: tuple[str, ...],
    cases: Path | None,
    cases_field: str | None,
    fail: bool,
    format_: str | None,
    field: str | None,
    query: str | None,
    max_tokens: int | None,
    overflow: str,
    batch_size: int | None,
    as_json: bool,
    typed: dict[str, Any],
    base: dict[str, Any],
) -> None:
    """Tell whether INPUTS have moved away from the cases that are kept with PROGRAM.

    INPUTS are files and folders as `map` reads them; `-`, or no INPUTS in a pipe, is standard
    input. PROGRAM runs on the cases and on INPUTS, and the lengths of inputs, what it says and how
    sure it is are compared. It does not tell whether it is right: for that, label some of INPUTS.
    The exit code is 0 whatever is found, but for --fail. Nothing is logged, sent or kept.
    """
    from ..evaluation.observed import Observed, observe
    from ..evaluation.shift import Shift
    from ..runner import Options

    options = Options(max_tokens, overflow=overflow)
    with (
        open_files(inputs, format_, query=query) as source,
        _open_cases(program, cases, cases_field, base["offline"]) as known,
    ):
        reader = open_reader(format_ or source.format or "lines", source, field, own=False)
        fn = open_function(program, **base, **typed)
        with closing(fn.runner):
            fn.runner.cut_tokens(fn.program, "x", options)  # does any input fit at all?
            with _counting("case") as hear:
                before = observe(fn, known, options, batch_size=batch_size, on_row=hear)
            with _counting("input") as hear:
                after = observe(
                    fn, _inputs(reader), options, into=Observed.like(before), batch_size=batch_size,
                    wake=source.wake, on_row=hear,
                )  # fmt: skip
    shift = Shift.between(before, after)
    if as_json:
        print_json({"program_id": fn.program.id} | shift.record())
    else:
        _show(shift)
    if fail and shift.verdict == "drift":
        raise click.exceptions.Exit(1)


Inputs = Iterator[tuple[str, str | PawError] | None]


@contextmanager
def _open_cases(
    program: str, file: Path | None, field: str | None, offline: bool
) -> Iterator[Inputs]:
    """Open the cases to compare with: a file's rows, or what is kept with the program."""
    if file:
        with open_files((str(file),)) as source:
            yield _inputs(open_reader(source.format or "lines", source, field, own=False))
        return
    if field:
        raise click.UsageError("--cases-field names a field of --cases FILE")
    kept = kept_cases.require(program, offline=offline, progress=status)
    yield ((case.input, case.input) for case in kept)


def _inputs(reader: Reader) -> Inputs:
    for row in reader:
        yield None if row is None else (row.text, row.error or row.text)


@contextmanager
def _counting(noun: str) -> Iterator[Callable[[Outcome[str]], None]]:
    """Draw how many rows are done, while they are."""
    tally = Tally()
    line = ProgressLine(noun, tally, live=True)

    def hear(outcome: Outcome[str]) -> None:
        tally.add(outcome)
        line.update()

    try:
        yield hear
    finally:
        line.clear()


def _show(shift: Shift) -> None:
    """Print what was compared, and the verdict."""
    from ..evaluation.shift import show_p

    rows = [["", "cases", "inputs", "distance", "p"]]
    rows.append(["rows", f"{shift.num_before:,}", f"{shift.num_after:,}", "", ""])
    for one in shift.changes:
        words, form = _SHOWN[one.name]
        values = ["" if x is None else form.format(x) for x in (one.before, one.after)]
        rows.append([words, *values, f"{one.distance:.2f}", show_p(one.p).removeprefix("= ")])
    for name, (x, y) in islice(shift.shares.items(), _MOST_OUTPUTS):
        rows.append([f"  {printable(name)[:40]}", f"{x:.1%}", f"{y:.1%}", "", ""])
    click.echo(f"{table(rows)}\n")
    for sentence in shift.sentences:
        print_text(f"drift: {sentence}" if shift.verdict == "drift" else sentence)
