"""`paw-mlx rank`: the rows of a file, best first."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from ..errors import PawError
from ..rows.flow import Outcome
from ..rows.packing import replacing_packed
from ..rows.rank import RankedRow, open_ranked, rank_rows, show_ranked
from ..rows.row import Row
from ..rows.run import RowFiles
from ..rows.tally import Tally
from ..rows.target import Target, path_of
from ..words import counted
from .command import RowCommand
from .common import to_json
from .opening import open_function
from .options import (
    base_options,
    batch_option,
    json_option,
    labels_option,
    overflow_option,
)
from .progress_line import ProgressLine, notes
from .references import FILE, PROGRAM
from .rows import Stdout, file_options, open_files
from .specs import check_writable, read_labels
from .voice import say


@click.command(cls=RowCommand)
@click.argument("program", type=PROGRAM)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=FILE)
@click.option(
    "--top", metavar="K", type=click.IntRange(1), help="Only the best rows, and memory for them."
)
@file_options
@click.option("--output-field", metavar="NAME", help="Which gets the score.  [default: score]")
@labels_option
@overflow_option
@batch_option
@json_option
@base_options
def command(
    program: str,
    files: tuple[str, ...],
    top: int | None,
    format_: str | None,
    field: str | None,
    query: str | None,
    output: Target | None,
    output_field: str | None,
    labels: str | None,
    overflow: str,
    batch_size: int | None,
    as_json: bool,
    base: dict[str, Any],
) -> None:
    """Sort the rows of FILE by what PROGRAM's labels say of them, the first label for the best.

    FILE is what `map` reads, several too; `-`, or no FILE in a pipe, is standard input. A row's
    score is the place in the order of the labels where it is expected, by their
    probabilities: 1 surely the first, 0 surely the last. Rows keep their fields and get the score;
    lines get it before them. What scores the same stays in order; a row that fails comes last,
    and the exit code is 1. With --json, rows come as objects.
    """
    output = None if output == Path("-") else output
    chosen = None if labels is None else read_labels(labels)
    from .. import Options

    options = Options(overflow=overflow)
    with open_files(files, format_, output, query) as source:
        if output:
            check_writable(path_of(output))
        rows = open_ranked(
            source, output, format=format_, field=field, score_field=output_field, as_json=as_json
        )
        fn = open_function(program, labels=chosen, **base)
        watch = _Watch(rows, as_json, all_are_written=top is None)
        with closing(fn.runner), closing(watch):
            fn.runner.cut_tokens(fn.program, "x", options)  # does any input fit at all?
            ranked = rank_rows(
                fn.runner,
                fn.program,
                rows,
                options,
                top=top,
                batch_size=batch_size,
                on_row=watch.hear,
            )
    _write(rows, ranked, output)
    watch.summarize()
    if watch.tally.num_failed:
        raise click.exceptions.Exit(1)


class _Watch:
    """Says on stderr what becomes of rows."""

    def __init__(self, files: RowFiles, as_json: bool, all_are_written: bool) -> None:
        self.tally, self._as_json = Tally(), as_json
        self._tell = files.written == "lines" or not all_are_written
        self._line = ProgressLine("row", self.tally, True, lambda: files.num_rows_after(0))

    def hear(self, outcome: Outcome[Row]) -> None:
        """Count a row; say its error if its place among the rows does not."""
        self.tally.add(outcome)
        self._line.update()
        if self._tell and isinstance(outcome.answer, PawError):
            self._line.say_error(outcome.item.number, outcome.answer, self._as_json)

    def close(self) -> None:
        """Wipe the line that is drawn."""
        self._line.clear()

    def summarize(self) -> None:
        """Say what it came to."""
        tally = self.tally
        if self._as_json:
            say(to_json(tally.record))
            return
        rows = counted(tally.num_rows, "row")
        told = f"{rows} in {tally.seconds:.1f} s ({tally.rows_s:.1f} rows/s)"
        say(", ".join([told, *notes(tally)]))
        if tally.num_failed:
            say(f"{tally.num_failed:,} of {rows} failed")


def _write(files: RowFiles, ranked: list[RankedRow], output: Target | None) -> None:
    """Write the rows to a file, as a whole, or print them."""
    head = b"" if files.written == "lines" else files.writer.head
    if output is None:
        sink = Stdout(head)
        for row, answer in ranked:
            sink.write(row.number, show_ranked(files, row, answer), False)
        sink.finish()
        return
    assert isinstance(output, Path)  # tables are refused
    with replacing_packed(output) as file:
        file.write(head)
        file.writelines(show_ranked(files, row, answer) for row, answer in ranked)
