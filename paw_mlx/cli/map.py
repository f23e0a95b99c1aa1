"""`paw-mlx map`: a program on every row of a file."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import PawError
from ..rows.flow import Outcome
from ..rows.part import Part
from ..rows.row import Row, check_probable
from ..rows.run import RowFiles, identity, is_complete, map_rows, open_part
from ..rows.sink import Sink
from ..rows.tally import Tally
from ..rows.target import Target, part_of, path_of
from ..words import counted
from .command import RowCommand
from .common import to_json
from .opening import open_function
from .options import (
    base_options,
    batch_option,
    decode_options,
    json_option,
    output_options,
)
from .progress_line import ProgressLine, notes
from .references import FILE, PROGRAM
from .rows import Stdout, added_options, file_options, open_files
from .specs import check_writable
from .voice import say

if TYPE_CHECKING:
    from ..functions import Function
    from ..runner import Options


def _check_address(
    context: click.Context, option: click.Parameter, address: str | None
) -> str | None:
    """Return where a cluster is; BadParameter for what is rather an argument behind --ray."""
    if address is None or re.fullmatch(r"local|auto|(ray://)?[^/\s]+:\d+", address):
        return address
    raise click.BadParameter(
        f"{address!r} is no address (local, auto, HOST:PORT or ray://HOST:PORT): "
        "for the default, write --ray behind all arguments, or --ray=local."
    )


@click.command(cls=RowCommand)
@click.argument("program", type=PROGRAM)
@click.argument("files", metavar="[FILE]...", nargs=-1, type=FILE)
@file_options
@added_options
@click.option("--resume", is_flag=True, help="Go on where an interrupted run to OUT stopped.")
@click.option(
    "--on-error", type=click.Choice(["keep", "stop"]), default="keep", show_default=True,
    help="What to do with a row that fails.",
)  # fmt: skip
@batch_option
@click.option(
    "--workers", metavar="N", type=click.IntRange(1),
    help="Compute in N processes, each with the base in its memory.",
)  # fmt: skip
@click.option(
    "--ray", metavar="[ADDRESS]", is_flag=False, flag_value="local", callback=_check_address,
    help="Compute on a Ray cluster: local (the default), auto, HOST:PORT or ray://HOST:PORT.",
)  # fmt: skip
@json_option
@decode_options
@output_options
@base_options
def command(
    program: str,
    files: tuple[str, ...],
    format_: str | None,
    field: str | None,
    query: str | None,
    output: Target | None,
    added: dict[str, Any],
    resume: bool,
    on_error: str,
    batch_size: int | None,
    workers: int | None,
    ray: str | None,
    as_json: bool,
    options: Options,
    typed: dict[str, Any],
    base: dict[str, Any],
) -> None:
    """Run PROGRAM on every row of FILE, and write rows with its outputs.

    FILE is text, JSON lines or csv with a header, each perhaps packed (.gz, .zst), Parquet or a
    table of SQLite; `-`, or no FILE in a pipe, is standard input. Several are read one after the
    other; a folder stands for the files below it, and 'logs/**/*.gz' for those that match.
    Rows keep their fields and their order; a row that fails is kept with its error, and the
    exit code is 1. An input equal to one of the last 8,192 different ones is not computed again.
    With -o, an interrupted run goes on with --resume (feed the same standard input again), no
    row lost and none twice. With --json, rows of JSON lines get all probabilities, as "decision".
    """
    output = None if output == Path("-") else output
    if resume and output is None:
        raise click.UsageError("--resume goes on with a file: give -o OUT")

    with open_files(files, format_, output, query) as source:
        if output:
            check_writable(path_of(output))
        rows = RowFiles.open(source, output, format=format_, field=field, decided=as_json, **added)
        if resume and output and is_complete(output, source):
            say(f"nothing to resume: {output} is there, {part_of(output)} is not")
            return
        fn = open_function(program, **base, **typed, workers=workers, ray=ray)
        if rows.added.probability:
            check_probable(fn.program.output)
        with closing(fn.runner):
            fn.runner.cut_tokens(fn.program, "x", options)  # does any input fit at all?
            with closing(_open_sink(fn, rows, output, options, resume)) as sink:
                stop = on_error == "stop"
                found = map_rows(
                    fn.runner, fn.program, rows, sink, options, batch_size=batch_size, stop=stop
                )
                _watch(found, rows, sink, as_json)
    if sink.num_failed:
        raise click.exceptions.Exit(1)


def _open_sink(
    fn: Function, files: RowFiles, output: Target | None, options: Options, resume: bool
) -> Sink:
    if output is None:
        return Stdout(files.writer.head)
    job = identity(fn.runner, fn.program, files, options)
    return open_part(output, job, files, resume)


def _watch(found: Generator[Outcome[Row]], files: RowFiles, sink: Sink, as_json: bool) -> None:
    """Say on stderr what becomes of rows: while they come, and when all are there."""
    # Drawn on a terminal, unless rows are printed on it.
    live = isinstance(sink, Part) or not sys.stdout.isatty()
    tally = Tally()
    line = ProgressLine("row", tally, live, lambda: files.num_rows_after(len(sink.done)))
    try:
        with closing(found):
            for outcome in found:
                tally.add(outcome)
                line.update()
                if files.written == "lines" and isinstance(outcome.answer, PawError):
                    line.say_error(outcome.item.number, outcome.answer, as_json)
    except BaseException as error:
        if sink.kept and not as_json and not isinstance(error, PawError):  # which has it as a hint
            say(sink.kept)
        raise
    finally:
        line.clear()
    _summarize(tally, sink, as_json)


def _summarize(tally: Tally, sink: Sink, as_json: bool) -> None:
    num_before = len(sink.done)
    if as_json:
        counts = {"num_failed": sink.num_failed, "num_before": num_before}
        say(to_json(tally.record | counts))
        return
    before = f", after {num_before:,} that were there" if num_before else ""
    num_rows = counted(tally.num_rows, "row")
    line = f"{num_rows} in {tally.seconds:.1f} s ({tally.rows_s:.1f} rows/s){before}"
    say(", ".join([line, *notes(tally)]))
    if sink.num_failed:
        total = counted(num_before + tally.num_rows, "row")
        say(f"{sink.num_failed:,} of {total} failed")
