"""A program on every row of an input: inputs, outcomes, outputs.

with open_input("mail.csv") as source:
    files = RowFiles.open(source, Path("out.csv"))
    job = identity(runner, program, files, options)
    with closing(Part(Path("out.csv"), job, files.writer, resume=True)) as sink:
        for outcome in map_rows(runner, program, files, sink, options):
            ...  # it is written
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FieldError, FormatError, OptionError, PawError, listed
from ..output import TEXT
from .flow import Outcome, outcomes
from .formats import format_of, open_reader, open_writer
from .part import part_of, side_of
from .row import Added, Reader, Row, Writer
from .sink import Sink
from .source import Input

if TYPE_CHECKING:
    from ..program import Program
    from ..runner import Options, Runner


@dataclass(frozen=True)
class RowFiles:
    """Rows from an input, and as they are to be written."""

    source: Input
    reader: Reader
    writer: Writer
    added: Added
    format: str  # of the input
    written: str  # the output's
    field: str | None  # that was asked for

    @classmethod
    def open(
        cls,
        source: Input,
        output: Path | None = None,
        *,
        format: str | None = None,
        field: str | None = None,
        output_field: str | None = None,
        probability_field: str | None = None,
        unordered: bool = False,
        decided: bool = False,
    ) -> RowFiles:
        """Begin to read an input; say how its rows are to be written, to a file or a stream.

        `format` is the input's (None: by its suffix, else lines), `field` holds the input in it,
        `output_field` gets the output (None: output), `probability_field` its label's probability
        (None: nothing does). `unordered` rows get their numbers. `decided` rows of JSON lines get
        all that a label was decided by, as `decision`.
        FieldError for a name that cannot be, OptionError for an output that cannot be written.
        """
        if output:
            _check_output(output, source)
        format = format or format_of(source.path) or "lines"
        written = format_of(output) or format
        _check_names(written, output_field, unordered, probability_field)
        rows = open_reader(format, source, field)
        decided = decided and written == "jsonl"
        output_field = output_field or "output"
        added = Added.to(rows.columns, output_field, unordered, probability_field, decided)
        if written != "lines" and (clash := added.clash(rows.columns, "the input")):
            raise clash
        writer = open_writer(written, rows, output, added)
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
                yield row, row.error or self._misfit(row) or row.text

    def num_rows_after(self, num_before: int) -> int | None:
        """Return how many rows a file has after those; None for a pipe.

        Until all is read, it is told by the bytes of what was.
        """
        stat, num_bytes, num_rows = self.source.stat, self.source.num_bytes, self.reader.num_rows
        if stat is None:
            return None
        return max(num_rows, round(num_rows * stat.st_size / num_bytes)) - num_before

    def _misfit(self, row: Row) -> PawError | None:
        """Return why a row cannot be written."""
        if self.written == "lines":
            return None
        if clash := self.added.clash(row.fields, f"row {row.number}"):
            return clash
        if self.written == "csv" and (more := set(row.fields) - set(self.reader.columns)):
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
    source = files.source
    where: dict[str, Any] = {"input": "a pipe"}
    if source.stat:
        where["input"] = str(source.path.resolve()) if source.path else source.name
        where |= {"input_bytes": source.stat.st_size, "input_head": source.digest()}
    decoding = asdict(options)
    del decoding["timeout_s"]  # which changes no output
    typed = {
        "output_type": None if program.output == TEXT else program.output.record(),
        "threshold": decoding.pop("threshold"),
        "otherwise": decoding.pop("otherwise"),
        "probability_field": files.added.probability,
        "decided": files.added.decided or None,
    }
    return {
        "program": program.digest(),
        **where,
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


def is_complete(output: Path, source: Input) -> bool:
    """Return whether a file is there, and nothing to resume; OptionError if its input is newer."""
    part = part_of(output)
    if not output.is_file() or part.exists():
        return False
    if source.stat and source.stat.st_mtime_ns > output.stat().st_mtime_ns:
        raise OptionError(
            f"{output} is older than {source.name}, and there is no {part}",
            hint="Leave out --resume to write it anew.",
        )
    side_of(part).unlink(missing_ok=True)  # a kill may have left it
    return True


def _check_output(output: Path, source: Input) -> None:
    if output.exists() and not output.is_file():
        raise OptionError(f"cannot write {output}: it is no regular file")
    if source.stat and output.exists() and os.path.samestat(output.stat(), source.stat):
        raise OptionError(f"{output} is the input, too", hint="Write to another file.")


def _check_names(
    written: str, output_field: str | None, unordered: bool, probability_field: str | None
) -> None:
    if written == "lines" and output_field:
        raise FieldError("--output-field names a field, and lines have none")
    if written == "lines" and probability_field:
        raise FieldError("--probability-field names a field, and lines have none")
    taken = {"error", *(["row"] if unordered else [])}
    if output_field in taken:
        raise FieldError(f"--output-field {output_field}: another field has that name")
    if probability_field in {*taken, output_field or "output"}:
        raise FieldError(f"--probability-field {probability_field}: another field has that name")
    if written == "lines" and unordered:
        raise FieldError("--unordered numbers the rows, and lines have no place for it")
