"""`paw-mlx map`: a program on every row of a file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import FormatError, OptionError, PawError, listed
from . import Command, error_record, json_option
from .common import base_options, chosen_base, decode_options, say
from .lines import Input, open_input
from .rows import Added, Reader, Row, Writer, count_rows, format_of, reader, writer
from .sinks import Done, Part, Stdout, hush, part_of
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
        if written != "lines":
            added.check(rows.columns, "the input")
        return cls(source, rows, writer(written, rows, output, added), added, format_, written)

    def inputs(self, done: Done) -> Iterator[tuple[Row, str | PawError] | None]:
        """The rows that are not done yet, each with its input or what is wrong with it."""
        for row in self.reader:
            if row is None:
                yield None
            elif row.number not in done:
                yield row, row.error or self._misfit(row) or row.text

    def _misfit(self, row: Row) -> PawError | None:
        """Why a row cannot be written; OptionError is raised if all may be like that."""
        if self.written != "lines":
            self.added.check(row.fields, f"row {row.number}")
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


@click.command(cls=Command)
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
    exit code is 1. Equal inputs are computed once. With -o, an interrupted run goes on with
    --resume, no row lost and none twice.
    """
    output = None if output == Path("-") else output
    if resume and output is None:
        raise click.UsageError("--resume goes on with a file: give -o OUT")
    if resume and output and output.is_file() and not part_of(output).exists():
        say(f"{output} is complete")
        return
    from .. import Options, function

    options = Options(max_tokens, temperature, seed, overflow=overflow)
    with open_input(file) as source:
        files = Files.of(source, output, format_, field, output_field, unordered)
        fn = function(program, **chosen_base(**base))
        job = Job(fn, options, batch_size, not unordered, on_error == "stop", as_json)
        sink: Part | Stdout = Stdout(files.writer.head)
        if output:
            chosen = {"field": field} | {k: base[k] for k in ("interpreter", "bits", "group_size")}
            sink = Part(output, _identity(files, job) | chosen, files.writer, resume)
        with closing(fn.interpreter):
            _run(files, job, sink)
    if sink.num_failed:
        raise click.exceptions.Exit(1)


def _check_output(output: Path, source: Input) -> None:
    check_writable(output)
    if output.exists() and not output.is_file():
        raise OptionError(f"cannot write {output}: it is no regular file")
    if source.path and output.exists() and output.samefile(source.path):
        raise OptionError(f"{output} is the input, too", hint="Write to another file.")


def _check_names(
    format_: str, written: str, field: str | None, output_field: str | None, unordered: bool
) -> None:
    if format_ == "lines" and field:
        raise click.UsageError("--field names a field, and lines have none")
    if written == "lines" and output_field:
        raise click.UsageError("--output-field names a field, and lines have none")
    if written == "lines" and unordered:
        raise click.UsageError("--unordered numbers the rows, and lines have no place for it")


def _identity(files: Files, job: Job) -> dict[str, Any]:
    """What makes a job the same: program, input, and what outputs and their form depend on."""
    identity: dict[str, Any] = {"program": job.function.program.digest(), "input": None}
    if path := files.source.path:
        stat = path.stat()
        identity |= {"input": str(path.resolve()), "input_bytes": stat.st_size}
        identity["input_mtime_ns"] = stat.st_mtime_ns
    identity |= {"format": files.format, "output_format": files.written}
    identity |= {"output_field": files.added.output, "unordered": not job.ordered}
    return identity | {k: v for k, v in asdict(job.options).items() if k != "timeout_s"}


def _run(files: Files, job: Job, sink: Part | Stdout) -> None:
    with sink:
        tally = _tally(files, sink)
        try:
            _write(files, job, sink, tally)
            sink.finish()
        except BrokenPipeError:
            hush()
            raise click.exceptions.Exit(0) from None
        except KeyboardInterrupt:
            if isinstance(sink, Part) and len(sink) and not job.as_json:
                tally.say(f"{len(sink):,} rows are in {sink.path}: --resume goes on after them")
            raise
        finally:
            tally.clear()
    if not job.as_json:
        _summarize(sink, tally)


def _tally(files: Files, sink: Part | Stdout) -> Tally:
    """Drawn on a terminal, unless rows are printed on it; with a total for a file."""
    live = sys.stderr.isatty() and (isinstance(sink, Part) or not sys.stdout.isatty())
    total = None
    if live and files.source.path:
        total = count_rows(files.format, files.source.path, files.reader) - len(sink.done)
    return Tally(total, live)


def _write(files: Files, job: Job, sink: Part | Stdout, tally: Tally) -> None:
    from ..interpreter.mapping import outcomes

    found = outcomes(
        job.function,
        files.inputs(sink.done),
        job.options,
        batch_size=job.batch_size,
        ordered=job.ordered,
        wake=files.source.wake,
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
                report(tally, row.number, answer, job.as_json)


def report(tally: Tally, number: int, error: PawError, as_json: bool) -> None:
    """A row's error on stderr, where the output has no place for it."""
    record = {"row": number} | error_record(error)
    as_text = f"row {number}: {error}"
    tally.say(json.dumps(record, ensure_ascii=False) if as_json else as_text)


def _summarize(sink: Part | Stdout, tally: Tally) -> None:
    before = f", after {len(sink.done):,} that were there" if len(sink.done) else ""
    line = f"{tally.num_rows:,} rows in {tally.seconds:.1f} s ({tally.rows_s:.1f} rows/s){before}"
    say(", ".join([line, *tally.notes]))
    if sink.num_failed:
        total = len(sink.done) + tally.num_rows
        say(f"{sink.num_failed:,} of {total:,} rows failed")
