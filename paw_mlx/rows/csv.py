"""CSV: a header, then records; delimiter, quoting and line ends stay the file's own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ..errors import FieldError, FormatError, PawError
from ..runner import Result
from ..words import counted
from .journal import Gain
from .jsonl import as_base64
from .records import UNLIMITED, Dialect, Record, mend_records, read_records, split_hint
from .row import INPUT, Added, Reader, Row, choose_field
from .source import Input
from .suffixes import suffix_of
from .target import Seal


class CsvReader:
    """Records after a header. A short one is filled up with empty fields."""

    def __init__(self, source: Input, name: str | None) -> None:
        self.columns: list[str] = []
        self.dialect, self.head, self._index, self.num_rows = Dialect(), "", 0, 0
        self._records: Iterator[Record | None] = iter(())
        hint, filled = split_hint(line for line in source.lines if line and line.strip())
        first = next(filled, None)
        if first is None:
            return
        self.dialect = Dialect.of(first, source.suffix, source.marked, hint)
        self._records = mend_records(chain([first], source.lines), self.dialect)
        head = next(record for record in self._records if record)
        self.head = head.text
        if head.error or isinstance(head.values, FormatError):
            raise FormatError(f"{source.name} has no sound header: {head.error}")
        self.columns = head.values
        chosen = choose_field(name, self.columns)
        if (times := self.columns.count(chosen)) > 1:
            raise FieldError(f"{times} fields are called {chosen!r}: rename all of them but one")
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
            full = self.dialect.join([text, *[""] * (width - 1)])
            return Row(number, text, error, {self.columns[0]: text}, full)
        if len(values) <= self._index:
            have = counted(len(values), "field")
            error = FormatError(f"{have}, and the input is field {self._index + 1}")
        missing = width - len(values)
        values = values + [""] * missing
        fields = dict(zip(self.columns, values, strict=True))
        full = text + self.dialect.between * missing
        if record.literal:  # its quotes would be a trap for whoever reads the output
            full = self.dialect.join(values)
        return Row(number, values[self._index], error, fields, full)


class CsvWriter:
    """Records: own columns, then output, its label's probability if wanted, error ("code:
    message"), the row's file and its number."""

    def __init__(self, source: Reader, output: Path | None, added: Added) -> None:
        own = source.dialect if isinstance(source, CsvReader) else Dialect()
        self._dialect = _dialect_of(output, own)
        self.seal: Seal | None = None
        self._columns, self._added = source.columns, added
        self.copies = isinstance(source, CsvReader) and self._dialect == own
        head = source.head if isinstance(source, CsvReader) and self.copies else None
        before = self._dialect.mark + self._dialect.hint
        self.head = before + self._record(head, source.columns, added.columns)
        if not source.columns:
            self.head = b""

    def row(self, row: Row, answer: Result | PawError) -> bytes:
        """Write a record; one that failed and has other columns stays whole, in the first."""
        gain = Gain.of(answer)
        added = [gain.output or "", gain.error or ""]
        if self._added.probability:
            added.insert(1, "" if gain.probability is None else repr(gain.probability))
        if self._added.file:
            added.append(row.file or "")
        if self._added.row:
            added.append(str(row.number))
        own = [_cell(row.fields.get(name)) for name in self._columns]
        if row.fields.keys() - set(self._columns):
            text = row.text if row.fields == {INPUT: row.text} else row.raw
            own = [text, *[""] * (len(own) - 1)]
        return self._record(row.raw if self.copies else None, own, added)

    def whole(self, lines: Iterator[bytes]) -> Iterator[tuple[int, int]]:
        """Find the records that are sound and have an end; unordered ones say their numbers."""
        cut: FormatError | None = None
        hint, lines = split_hint(lines)
        for number, record in enumerate(read_records(lines, self._dialect, UNLIMITED)):
            values, raw = record.values, record.raw
            if cut:
                raise cut
            if isinstance(values, FormatError) or not raw.endswith(b"\n"):
                cut = FormatError(f"record {number} is no valid csv")
            else:
                num_bytes = len(raw) if number else len(hint) + len(raw)
                yield num_bytes, int(values[-1]) if number and self._added.row else number

    def _record(self, raw: str | None, own: Iterable[str], added: list[str]) -> bytes:
        dialect = self._dialect
        parts = dialect.join(own) if raw is None else raw, dialect.join(added)
        return (dialect.between.join(parts) + dialect.newline).encode("utf-8", "replace")


def _dialect_of(output: Path | None, own: Dialect) -> Dialect:
    """Return the input's own dialect, unless the output's suffix says how fields are parted."""
    suffix = suffix_of(output)
    if suffix == ".tsv":
        return own if own.delimiter == "\t" else own.with_delimiter("\t")
    if suffix == ".csv" and own.delimiter == "\t":
        return own.with_delimiter(",")
    return own


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return as_base64(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
