"""A program on every row of an input: inputs, outcomes, outputs.

with open_source(["mail.csv"]) as source:
    files = RowFiles.open(source, Path("out.csv"))
    job = identity(runner, program, files, options)
    with closing(Part(Path("out.csv"), job, files.writer, resume=True)) as sink:
        for outcome in map_rows(runner, program, files, sink, options):
            ...  # it is written
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import FormatError, OptionError, PawError, listed
from ..output import TEXT
from .checks import check_names, check_target
from .flow import Outcome, outcomes
from .formats import is_streamed, is_tabular, open_reader, open_writer
from .part import Part
from .row import Added, Reader, Row, Writer
from .sink import Sink
from .source import Source
from .target import Target, format_of, part_of, path_of, side_of

if TYPE_CHECKING:
    from ..program import Program
    from ..runner import Options, Runner


@dataclass(frozen=True)
class RowFiles:
    """Rows from an input, and as they are to be written."""

    source: Source
    reader: Reader
    writer: Writer
    added: Added
    format: str  # of the input
    written: str  # the output's
    field: str | None  # that was asked for

    @classmethod
    def open(
        cls,
        source: Source,
        output: Target | None = None,
        *,
        format: str | None = None,
        field: str | None = None,
        output_field: str | None = None,
        probability_field: str | None = None,
        file_field: str | None = None,
        unordered: bool = False,
        decided: bool = False,
    ) -> RowFiles:
        """Begin to read an input; say how its rows are to be written, to a file or a stream.

        `format` is the input's (None: by its suffix, else lines), `field` holds the input in it,
        `output_field` gets the output (None: output), `probability_field` its label's probability
        and `file_field` the row's file (None: nothing does). `unordered` rows get their numbers.
        `decided` rows of JSON lines get all that a label was decided by, as `decision`.
        FieldError for a name that cannot be, OptionError for an output that cannot be written.
        """
        if output:
            check_target(output, source)
        format = format or source.format or "lines"
        written = format_of(output) or (format if output or is_streamed(format) else "jsonl")
        names = {
            "--output-field": output_field,
            "--probability-field": probability_field,
            "--file-field": file_field,
        }
        check_names(written, names, unordered)
        own = written not in ("lines", format)  # what stays in its format is copied
        rows = open_reader(format, source, field, own=own)
        decided = decided and written == "jsonl"
        output_field = output_field or "output"
        added = Added.to(
            rows.columns, output_field, unordered, probability_field, decided, file_field
        )
        if written != "lines" and (clash := added.clash(rows.columns, "the input")):
            raise clash
        writer = open_writer(written, source, rows, output, added)
        return cls(source, rows, writer, added, format, written, field)

    @property
    def ordered(self) -> bool:
        """Whether rows are written in the input's order."""
        return self.added.row is None

    def inputs(self, sink: Sink) -> Iterator[tuple[Row, str | PawError] | None]:
        """Give the rows that a sink lacks, each with its input or what is wrong with it."""
        for row in self.reader:
            if row is None:
                yield None
                continue
            if row.number == 1:
                sink.begin(row.text)
            if row.number not in sink.done:
                if self.added.file:
                    file = row.file or self.source.name
                    row = replace(row, file=file.encode("utf-8", "replace").decode())
                yield row, row.error or self._misfit(row) or row.text

    def num_rows_after(self, num_before: int) -> int | None:
        """Return how many rows a file has after those; None for a pipe.

        Until all is read, it is told by the bytes of what was.
        """
        num_rows, num_bytes = self.reader.num_rows, self.source.num_bytes
        if not self.source.stats or not num_bytes:
            return None
        total = sum(info.st_size for info in self.source.stats)
        return max(num_rows, round(num_rows * total / num_bytes)) - num_before

    def _misfit(self, row: Row) -> PawError | None:
        """Return why a row cannot be written."""
        if self.written == "lines":
            return None
        if clash := self.added.clash(row.fields, f"row {row.number}"):
            return clash
        if is_tabular(self.written) and (more := set(row.fields) - set(self.reader.columns)):
            return FormatError(f"the first row lacks its fields {listed(sorted(more))}")
        return None


def map_rows(
    runner: Runner,
    program: Program,
    files: RowFiles,
    sink: Sink,
    options: Options,
    *,
    batch_size: int | None = None,
    stop: bool = False,
) -> Generator[Outcome[Row]]:
    """Run a program on the rows that a sink lacks, and write them; yield what became of each.

    A row that fails is written with its error, or raises it if `stop` is set. `batch_size` calls
    are in flight at once (None: what keeps the runner busy). An error that ends the run early
    gets a hint of what the sink has kept.
    """
    found = outcomes(
        runner,
        program,
        files.inputs(sink),
        options,
        batch_size=batch_size,
        ordered=files.ordered,
        wake=files.source.wake,
        weigh=lambda row: len(row.raw),
    )
    try:
        with closing(found):
            for outcome in found:
                row, answer = outcome.item, outcome.answer
                failed = isinstance(answer, PawError)
                if stop and isinstance(answer, PawError):
                    answer.add_note(
                        f"It is row {row.number}'s; --on-error keep goes on after such."
                    )
                    raise answer
                sink.write(row.number, files.writer.row(row, answer), failed)
                yield outcome
        sink.finish()
    except PawError as error:
        if sink.kept:
            error.add_note(f"{sink.kept}.")
        raise


def identity(runner: Runner, program: Program, files: RowFiles, options: Options) -> dict[str, Any]:
    """Return what makes two runs the same: program, base, input, and what outputs depend on.

    What most runs lack (a type, a threshold) is there only if it was given.
    """
    decoding = asdict(options)
    del decoding["timeout_s"]  # which changes no output
    typed = {
        "output_type": None if program.output == TEXT else program.output.record(),
        "threshold": decoding.pop("threshold"),
        "otherwise": decoding.pop("otherwise"),
        "probability_field": files.added.probability,
        "decided": files.added.decided or None,
        "file_field": files.added.file,
    }
    return {
        "program": program.digest(),
        **files.source.identity(),
        "format": files.format,
        "output_format": files.written,
        "columns": files.reader.columns,
        "output_field": files.added.output,
        "unordered": not files.ordered,
        **runner.identity,
        **decoding,
        "field": files.field,
        **{name: value for name, value in typed.items() if value is not None},
    }


def is_complete(output: Target, source: Source) -> bool:
    """Return whether a file or a table is there, and nothing to resume.

    OptionError if its input is newer; that of a SQLite table may have rows that are.
    """
    part, path = part_of(output), path_of(output)
    if not path.is_file() or part.exists():
        return False
    newest = max((info.st_mtime_ns for info in source.stats), default=0)
    if format_of(output) == "sqlite":
        from .sqlite.writer import holds_all

        if not holds_all(output, source, newest):
            return False
    elif newest > path.stat().st_mtime_ns:
        raise OptionError(
            f"{output} is older than {source.name}, and there is no {part}",
            hint="Leave out --resume to write it anew.",
        )
    side_of(part).unlink(missing_ok=True)  # a kill may have left it
    return True


def open_part(output: Target, job: dict[str, Any], files: RowFiles, resume: bool) -> Part:
    """Open where rows are kept until all are done (`Part`), perhaps with those of an earlier run.

    To a table that is whole, those are added which its input has gained since.
    """
    writer = files.writer
    if resume and files.written == "sqlite":
        from .sqlite.writer import SqliteWriter

        assert isinstance(writer, SqliteWriter)
        writer.go_on(job)
    return Part(output, job, writer, resume)
