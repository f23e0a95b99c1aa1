r"""Rows of text files, read and written one at a time.

    lines   a line is an input, an empty one too; a break inside an output becomes \n, and is
            then like a \n that the output spells: where that matters, write jsonl
    jsonl   an object with the input in one field, or a string; blank lines are skipped
    csv     a header, then records; delimiter, quoting and line ends stay the file's own

A row's own fields are copied as they stand, not written anew. Where lines are None ("nothing at
the moment"), so are rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

import click

from ..errors import FormatError, OptionError, PawError, listed
from .common import counted
from .lines import Input, decoded
from .records import UNLIMITED, Dialect, Record, records

SUFFIXES = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".tsv": "csv", ".txt": "lines",
}  # fmt: skip
_OTHERS = {
    ".json", ".xlsx", ".xls", ".ods", ".parquet", ".arrow", ".feather", ".db", ".sqlite",
    ".gz", ".bz2", ".xz", ".zst", ".zip",
}  # fmt: skip
_AHEAD = 64  # rows that are searched for one that is sound
_INPUT = "input"  # the name of an input that has none


@dataclass(frozen=True)
class Row:
    """An input and what stands around it; of a malformed row, `fields` hold all its text.

    `raw` is the row as its format writes it, without a line end: fields may be appended.
    """

    number: int  # from 1
    text: str
    error: PawError | None
    fields: Mapping[str, Any]
    raw: str


class Reader(Protocol):
    """Iterate to get rows. `columns` are the fields of all rows, or of the first that is sound;
    `num_rows` counts what was read."""

    columns: list[str]
    num_rows: int

    def __iter__(self) -> Iterator[Row | None]: ...


@dataclass(frozen=True)
class Added:
    """The names of what a row gains: its output, or its error, and its number if wanted."""

    output: str
    error: str
    row: str | None

    @classmethod
    def to(cls, columns: Sequence[str], output: str, numbered: bool) -> Added:
        """`error` is called so unless a column is."""
        return cls(output, _free("error", columns, output), "row" if numbered else None)

    def clash(self, columns: Iterable[str], where: str) -> OptionError | None:
        """What is wrong if the output's name, or the number's, is taken."""
        if self.output in columns:
            return _taken(where, self.output, "Name another with --output-field.")
        if self.row and self.row in columns:
            return _taken(where, self.row, "Leave out --unordered.")
        return None


class Writer(Protocol):
    """Rows as bytes. `whole` finds, in what was written, each row's bytes and number (0: the
    head), up to a last one that was cut; ValueError or LookupError if it is damaged."""

    head: bytes

    def row(self, row: Row, answer: str | PawError) -> bytes: ...

    def whole(self, lines: Iterator[bytes]) -> Iterator[tuple[int, int]]: ...


def format_of(path: Path | None) -> str | None:
    """The format that a file's suffix names; OptionError if it is one that is not known here."""
    suffix = path.suffix.lower() if path else ""
    if suffix in _OTHERS:
        raise OptionError(
            f"{path} is neither text nor JSON lines nor csv, by its suffix",
            hint="Make it .jsonl, .csv or .txt. An input may say what it is with --format.",
        )
    return SUFFIXES.get(suffix)


def reader(format_: str, source: Input, name: str | None) -> Reader:
    """Read rows, their inputs in the field `name`; click.UsageError if there is none such."""
    if format_ == "csv":
        return CsvReader(source, name)
    if format_ == "jsonl":
        return JsonlReader(source, name)
    return LinesReader(source)


def writer(format_: str, source: Reader, output: Path | None, added: Added) -> Writer:
    """Write what was read, and what it gained."""
    dialect = own = source.dialect if isinstance(source, CsvReader) else Dialect()
    suffix = output.suffix.lower() if output else ""
    if suffix == ".tsv" or (suffix == ".csv" and dialect.delimiter == "\t"):
        dialect = replace(dialect, delimiter="\t" if suffix == ".tsv" else ",")
    if (format_ != "csv" or dialect != own) and len({*source.columns}) < len(source.columns):
        raise OptionError("the header has one name twice, so rows can only stay as they are")
    if format_ == "csv":
        return CsvWriter(dialect, source, added)
    if format_ == "jsonl":
        return JsonlWriter(isinstance(source, JsonlReader), added)
    return LinesWriter()


class LinesReader:
    """Every line is an input."""

    def __init__(self, source: Input) -> None:
        self.columns, self.num_rows, self._lines = [_INPUT], 0, source.lines

    def __iter__(self) -> Iterator[Row | None]:
        for line in self._lines:
            if line is None:
                yield None
                continue
            self.num_rows += 1
            text, error = decoded(line)
            yield Row(self.num_rows, text, error, {_INPUT: text}, text)


class JsonlReader:
    """An object a line, or a string, which stands for {"input": string}."""

    def __init__(self, source: Input, name: str | None) -> None:
        self._name, self.num_rows = name, 0
        self.columns: list[str] = []
        ahead: list[bytes] = []
        found = (line for line in source.lines if line and line.strip())
        for line in islice(found, _AHEAD):
            ahead.append(line)
            text, fields, fault = _object(line)
            self.columns = list(fields)
            if fault:
                continue
            if text.startswith("{"):
                self._name = _chosen(name, self.columns)
                if self._name is None:
                    raise _no_field(name, self.columns)
            break
        self._lines = chain(ahead, source.lines)

    def __iter__(self) -> Iterator[Row | None]:
        for line in self._lines:
            if line is None:
                yield None
            elif line.strip():
                self.num_rows += 1
                yield self._row(self.num_rows, line)

    def _row(self, number: int, line: bytes) -> Row:
        text, fields, fault = _object(line)
        if fault or not text.startswith("{"):
            return Row(number, fields[_INPUT], fault, fields, dumps(fields))
        name = _chosen(self._name, [*fields])
        if name and isinstance(fields[name], str):
            return Row(number, fields[name], None, fields, text)
        if name:
            fault = FormatError(f"the field {name!r} is no text")
        else:
            have = listed([*fields]) or "none"
            fault = FormatError(f"there is no field {self._name or _INPUT!r}: the row has {have}")
        return Row(number, "", fault, fields, text)


class CsvReader:
    """Records after a header. A short one is filled up with empty fields."""

    def __init__(self, source: Input, name: str | None) -> None:
        suffix = source.path.suffix.lower() if source.path else ""
        self.columns: list[str] = []
        self.dialect, self.head, self._index, self.num_rows = Dialect(), "", 0, 0
        self._records: Iterator[Record | None] = iter(())
        first = next((line for line in source.lines if line and line.strip()), None)
        if first is None:
            return
        self.dialect = Dialect.of(first, suffix, source.marked)
        self._records = records(chain([first], source.lines), self.dialect.delimiter)
        head = next(record for record in self._records if record)
        self.head = head.text
        if head.error or isinstance(head.values, FormatError):
            raise FormatError(f"{source.name} has no sound header: {head.error}")
        self.columns = head.values
        chosen = _chosen(name, self.columns)
        if chosen is None:
            raise _no_field(name, self.columns)
        self._index = self.columns.index(chosen)

    def __iter__(self) -> Iterator[Row | None]:
        for record in self._records:
            if record is None:
                yield None
            elif record.values:
                self.num_rows += 1
                yield self._row(self.num_rows, record)

    def _row(self, number: int, record: Record) -> Row:
        text, values, error = record.text, record.values, record.error
        width = len(self.columns)
        if isinstance(values, list) and len(values) > width:
            error = FormatError(f"{counted(len(values), 'field')}, and the header has {width}")
        if error or isinstance(values, FormatError):
            full = self.dialect.joined([text, *[""] * (width - 1)])
            return Row(number, text, error, {self.columns[0]: text}, full)
        if len(values) <= self._index:
            have = counted(len(values), "field")
            error = FormatError(f"{have}, and the input is field {self._index + 1}")
        missing = width - len(values)
        values = values + [""] * missing
        fields = dict(zip(self.columns, values, strict=True))
        full = text + self.dialect.delimiter * missing
        return Row(number, values[self._index], error, fields, full)


class LinesWriter:
    """Outputs alone, each on a line of its own."""

    head = b""

    def row(self, row: Row, answer: str | PawError) -> bytes:
        text = "" if isinstance(answer, PawError) else answer
        return text.replace("\r", "\\r").replace("\n", "\\n").encode() + b"\n"

    def whole(self, lines: Iterator[bytes]) -> Iterator[tuple[int, int]]:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            yield len(line), number


class JsonlWriter:
    """Objects: own fields, then the output or an error {"code", "message"}."""

    head = b""

    def __init__(self, same: bool, added: Added) -> None:
        self._same, self._added = same, added

    def row(self, row: Row, answer: str | PawError) -> bytes:
        added: dict[str, Any] = {}
        if isinstance(answer, PawError):
            name = _free("error", row.fields, self._added.output)
            added[name] = {"code": type(answer).__name__, "message": str(answer)}
        else:
            added[self._added.output] = answer
        if self._added.row:
            added[self._added.row] = row.number
        own = (row.raw if self._same else dumps(row.fields))[:-1].rstrip()
        return f"{own}{'' if own == '{' else ', '}{dumps(added)[1:]}\n".encode()

    def whole(self, lines: Iterator[bytes]) -> Iterator[tuple[int, int]]:
        for number, line in enumerate(lines, 1):
            if not line.endswith(b"\n"):
                return
            yield len(line), json.loads(line)[self._added.row] if self._added.row else number


class CsvWriter:
    """Records: own columns, then output, error ("code: message") and the row's number."""

    def __init__(self, dialect: Dialect, source: Reader, added: Added) -> None:
        self._dialect, self._columns, self._added = dialect, source.columns, added
        self._same = isinstance(source, CsvReader) and source.dialect == dialect
        names = [added.output, added.error, *([added.row] if added.row else [])]
        own = source.head if isinstance(source, CsvReader) and self._same else None
        self.head = dialect.mark + self._record(own, source.columns, names)
        if not source.columns:
            self.head = b""

    def row(self, row: Row, answer: str | PawError) -> bytes:
        failed = isinstance(answer, PawError)
        added = ["", f"{type(answer).__name__}: {answer}"] if failed else [str(answer), ""]
        if self._added.row:
            added.append(str(row.number))
        own = [_cell(row.fields.get(name)) for name in self._columns]
        if row.fields.keys() - set(self._columns):  # a row that failed stays whole
            text = row.text if row.fields == {_INPUT: row.text} else row.raw
            own = [text, *[""] * (len(own) - 1)]
        return self._record(row.raw if self._same else None, own, added)

    def whole(self, lines: Iterator[bytes]) -> Iterator[tuple[int, int]]:
        cut: FormatError | None = None
        found = filter(None, records(lines, self._dialect.delimiter, UNLIMITED))
        for number, (values, raw) in enumerate(found):
            if cut:
                raise cut
            if isinstance(values, FormatError) or not raw.endswith(b"\n"):
                cut = FormatError(f"record {number} is no valid csv")
            else:
                yield len(raw), int(values[-1]) if number and self._added.row else number

    def _record(self, raw: str | None, own: Iterable[str], added: list[str]) -> bytes:
        dialect = self._dialect
        parts = dialect.joined(own) if raw is None else raw, dialect.joined(added)
        return (dialect.delimiter.join(parts) + dialect.newline).encode("utf-8", "replace")


def dumps(value: Mapping[str, Any]) -> str:
    """JSON as people read it; escaped where it holds half a character."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def _object(line: bytes) -> tuple[str, dict[str, Any], FormatError | None]:
    """A line of jsonl: its text and its fields; if it is no row, what is wrong with it."""
    text, fault = decoded(line)
    text = text.strip()
    try:
        value = {_INPUT: text} if fault else json.loads(text)
    except (ValueError, RecursionError) as error:
        return text, {_INPUT: text}, FormatError(f"no valid JSON ({error})")
    if isinstance(value, dict):
        return text, value, fault
    if isinstance(value, str):
        return text, {_INPUT: value}, None
    return text, {_INPUT: text}, FormatError("neither an object nor a string")


def _chosen(name: str | None, columns: Sequence[str]) -> str | None:
    """The field that holds the input: the one named, `input`, `text`, or the only one."""
    if name is not None:
        return name if name in columns else None
    only = columns[0] if len(columns) == 1 else None
    return next((known for known in (_INPUT, "text") if known in columns), only)


def _no_field(name: str | None, columns: Sequence[str]) -> click.UsageError:
    have = f"the input has {', '.join(columns)}"
    if name is not None:
        return click.UsageError(f"there is no field {name!r}: {have}")
    return click.UsageError(f"name the field that holds the input with --field: {have}")


def _taken(where: str, name: str, hint: str) -> OptionError:
    return OptionError(f"{where} has a field {name!r} already", hint=hint)


def _free(name: str, columns: Iterable[str], output: str) -> str:
    return f"{output}_{name}" if name in columns else name


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
