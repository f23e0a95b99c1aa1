"""`paw-mlx map`: a program on every row of a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import FormatError, OptionError, PawError, listed
from . import RowCommand, json_option
from .common import base_options, chosen_base, counted, decode_options, say
from .lines import Input, open_input
from .rows import Added, Reader, Row, Writer, format_of, reader, writer
from .sinks import Part, Sink, Stdout, part_of, side_of
from .specs import check_writable
from .tally import Tally

if TYPE_CHECKING:
    from ..interpreter import Function, Options

batch_option = click.option(
    "--batch-size", type=click.IntRange(1), help="Calls in flight.  [default: what pays]"
)


@dataclass(frozen=True)
class Files:
    """Rows from an input, and as they are to be written."""

    source: Input
    reader: Reader
    writer: Writer
    added: Added
    format: str  # of the input
    written: str

    @classmethod
    def of(
        cls,
        source: Input,
        output: Path | None,
        format_: str | None,
        field: str | None,
        output_field: str | None,
        unordered: bool,
    ) -> Files:
        if output:
            _check_output(output, source)
        format_ = format_ or format_of(source.path) or "lines"
        written = format_of(output) or format_
        _check_names(format_, written, field, output_field, unordered)
        rows = reader(format_, source, field)
        added = Added.to(rows.columns, output_field or "output", unordered)
        if written != "lines" and (clash := added.clash(rows.columns, "the input")):
            raise clash
        return cls(source, rows, writer(written, rows, output, added), added, format_, written)

    def inputs(self, sink: Sink) -> Iterator[tuple[Row, str | PawError] | None]:
        """The rows that are not done yet, each with its input or what is wrong with it."""
        for row in self.reader:
            if row is None:
                yield None
                continue
            if row.number == 1:
                sink.first(row.text)
            if row.number not in sink.done:
                yield row, row.error or self._misfit(row) or row.text

    def total(self, num_before: int) -> int | None:
        """How many rows a file has after those: by the bytes of what was read, until all is."""
        stat, num_bytes, num_rows = self.source.stat, self.source.num_bytes, self.reader.num_rows
        if stat is None:
            return None
        return max(num_rows, round(num_rows * stat.st_size / num_bytes)) - num_before

    def _misfit(self, row: Row) -> PawError | None:
        """Why a row cannot be written."""
        if self.written == "lines":
            return None
        if clash := self.added.clash(row.fields, f"row {row.number}"):
            return clash
        if self.written == "csv" and (more := set(row.fields) - set(self.reader.columns)):
            return FormatError(f"the first row lacks its fields {listed(sorted(more))}")
        return None


@dataclass(frozen=True)
class Job:
    """How rows are run."""

    function: Function
    options: Options
    batch_size: int | None
    ordered: bool
    stop: bool  # at the first error
    as_json: bool


@click.command(cls=RowCommand)
@click.argument("program")
@click.argument("file", required=False)
@click.option(
    "--format", "format_", type=click.Choice(["lines", "jsonl", "csv"]),
    help="Of FILE.  [default: by its suffix, else lines]",
)  # fmt: skip
@click.option(
    "--field", metavar="NAME", help="Which holds the input.  [default: input, text, the only one]"
)
@click.option(
    "-o", "--output", metavar="OUT", type=click.Path(path_type=Path),
    help="Write rows here, in the format of its suffix if it has one.",
)  # fmt: skip
@click.option("--output-field", metavar="NAME", help="Which gets the output.  [default: output]")
@click.option("--unordered", is_flag=True, help="Rows as they are done, with their number.")
@click.option("--resume", is_flag=True, help="Go on where an interrupted run to OUT stopped.")
@click.option(
    "--on-error", type=click.Choice(["keep", "stop"]), default="keep", show_default=True,
    help="What to do with a row that fails.",
)  # fmt: skip
@batch_option
@json_option
@decode_options
@base_options
def command(
    program: str,
    file: str | None,
    format_: str | None,
    field: str | None,
    output: Path | None,
    output_field: str | None,
    unordered: bool,
    resume: bool,
    on_error: str,
    overflow: str,
    batch_size: int | None,
    as_json: bool,
    max_tokens: int | None,
    temperature: float,
    seed: int | None,
    **base: Any,
) -> None:
    """Run PROGRAM on every row of FILE, and write rows with its outputs.

    FILE is text, JSON lines or csv with a header; `-`, or no FILE in a pipe, is standard input.
    Rows keep their fields and their order; a row that fails is kept with its error, and the
    exit code is 1. An input equal to one of the last 8,192 different ones is not computed again.
    With -o, an interrupted run goes on with --resume (feed the same standard input again), no
    row lost and none twice.
    """
    output = None if output == Path("-") else output
    if resume and output is None:
        raise click.UsageError("--resume goes on with a file: give -o OUT")
    from .. import Options, function

    options = Options(max_tokens, temperature, seed, overflow=overflow)
    with open_input(file) as source:
        files = Files.of(source, output, format_, field, output_field, unordered)
        if resume and output and _is_complete(output, source):
            return
        fn = function(program, **chosen_base(**base))
        job = Job(fn, options, batch_size, not unordered, on_error == "stop", as_json)
        with closing(fn.interpreter):
            fn.interpreter.cut_tokens(fn.program, "x", options)  # does any input fit at all?
            sink: Sink = Stdout(files.writer.head)
            if output:
                sink = Part(output, _identity(files, job) | {"field": field}, files.writer, resume)
            with closing(sink):
                _run(files, job, sink)
    if sink.num_failed:
        raise click.exceptions.Exit(1)


def _check_output(output: Path, source: Input) -> None:
    check_writable(output)
    if output.exists() and not output.is_file():
        raise OptionError(f"cannot write {output}: it is no regular file")
    if source.stat and output.exists() and os.path.samestat(output.stat(), source.stat):
        raise OptionError(f"{output} is the input, too", hint="Write to another file.")


def _is_complete(output: Path, source: Input) -> bool:
    """Whether OUT is there, and nothing to resume; OptionError if its input is newer."""
    part = part_of(output)
    if not output.is_file() or part.exists():
        return False
    if source.stat and source.stat.st_mtime_ns > output.stat().st_mtime_ns:
        raise OptionError(
            f"{output} is older than {source.name}, and there is no {part}",
            hint="Leave out --resume to write it anew.",
        )
    side_of(part).unlink(missing_ok=True)  # a kill may have left it
    say(f"nothing to resume: {output} is there, {part} is not")
    return True


def _check_names(
    format_: str, written: str, field: str | None, output_field: str | None, unordered: bool
) -> None:
    if format_ == "lines" and field:
        raise click.UsageError("--field names a field, and lines have none")
    if written == "lines" and output_field:
        raise click.UsageError("--output-field names a field, and lines have none")
    if output_field == "error" or (unordered and output_field == "row"):
        raise click.UsageError(f"--output-field {output_field}: another field has that name")
    if written == "lines" and unordered:
        raise click.UsageError("--unordered numbers the rows, and lines have no place for it")


def _identity(files: Files, job: Job) -> dict[str, Any]:
    """What makes a job the same: program, base, input, and what outputs and their form need."""
    source, base = files.source, job.function.interpreter.base
    identity: dict[str, Any] = {"program": job.function.program.digest(), "input": "a pipe"}
    if source.stat:
        identity["input"] = str(source.path.resolve()) if source.path else source.name
        identity |= {"input_bytes": source.stat.st_size, "input_head": source.digest()}
    identity |= {"format": files.format, "output_format": files.written}
    identity |= {"columns": files.reader.columns, "output_field": files.added.output}
    identity |= {"unordered": not job.ordered, "base": base.fingerprint, "form": base.form}
    return identity | {k: v for k, v in asdict(job.options).items() if k != "timeout_s"}


def _run(files: Files, job: Job, sink: Sink) -> None:
    # Drawn on a terminal, unless rows are printed on it.
    live = isinstance(sink, Part) or not sys.stdout.isatty()
    tally = Tally("row", live, lambda: files.total(len(sink.done)))
    try:
        _write(files, job, sink, tally)
        sink.finish()
    except BaseException as error:
        if isinstance(sink, Part) and len(sink):
            kept = f"{sink.path} holds {counted(len(sink), 'row')}: go on with --resume"
            if isinstance(error, PawError):
                error.add_note(f"{kept}.")
            elif not job.as_json:
                tally.say(kept)
        raise
    finally:
        tally.clear()
    _summarize(sink, tally, job.as_json)


def _write(files: Files, job: Job, sink: Sink, tally: Tally) -> None:
    from ..interpreter.mapping import outcomes

    found = outcomes(
        job.function,
        files.inputs(sink),
        job.options,
        batch_size=job.batch_size,
        ordered=job.ordered,
        wake=files.source.wake,
        weigh=lambda row: len(row.raw),
    )
    with closing(found):
        for outcome in found:
            row, answer = outcome.item, outcome.answer
            tally.add(outcome)
            if not isinstance(answer, PawError):
                sink.write(row.number, files.writer.row(row, answer.text), False)
                continue
            if job.stop:
                answer.add_note(f"It is row {row.number}'s; --on-error keep goes on after such.")
                raise answer
            sink.write(row.number, files.writer.row(row, answer), True)
            if files.written == "lines":
                tally.say_error(row.number, answer, job.as_json)


def _summarize(sink: Sink, tally: Tally, as_json: bool) -> None:
    num_before = len(sink.done)
    if as_json:
        say(json.dumps(tally.record | {"num_failed": sink.num_failed, "num_before": num_before}))
        return
    before = f", after {num_before:,} that were there" if num_before else ""
    num_rows = counted(tally.num_rows, "row")
    line = f"{num_rows} in {tally.seconds:.1f} s ({tally.rows_s:.1f} rows/s){before}"
    say(", ".join([line, *tally.notes]))
    if sink.num_failed:
        total = counted(num_before + tally.num_rows, "row")
        say(f"{sink.num_failed:,} of {total} failed")
