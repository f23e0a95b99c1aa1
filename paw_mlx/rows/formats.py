"""The formats of rows: by what name, read and written by whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import FieldError, OptionError
from .csv import CsvReader, CsvWriter
from .jsonl import JsonlReader, JsonlWriter
from .packing import check_packing, import_arrow, pack
from .row import Added, Reader, Writer
from .several import Several, SeveralReader
from .source import Source
from .suffixes import packing_of
from .target import Target
from .text import LinesReader, LinesWriter


class RowFormat(NamedTuple):
    """How rows of one format are read and written.

    `reader` gets a source, the field of the input (if named), and whether rows need all their own
    fields. `streamed`: rows go to a pipe, too. `tabular`: all rows have the same fields.
    """

    reader: Callable[[Any, str | None, bool], Reader]
    writer: Callable[[Source, Reader, Any, Added], Writer]
    streamed: bool = True
    tabular: bool = False


FORMATS = {
    "lines": RowFormat(
        lambda source, field, own: LinesReader(source),
        lambda source, reader, output, added: LinesWriter(),
    ),
    "jsonl": RowFormat(
        lambda source, field, own: JsonlReader(source, field),
        lambda source, reader, output, added: JsonlWriter(reader, added),
    ),
    "csv": RowFormat(
        lambda source, field, own: CsvReader(source, field),
        lambda source, reader, output, added: CsvWriter(reader, output, added),
        tabular=True,
    ),
    "parquet": RowFormat(
        lambda source, field, own: _read_parquet(source, field, own),
        lambda source, reader, output, added: _write_parquet(source, reader, output, added),
        streamed=False,
        tabular=True,
    ),
    "sqlite": RowFormat(
        lambda source, field, own: _read_sqlite(source, field),
        lambda source, reader, output, added: _write_sqlite(source, reader, output, added),
        streamed=False,
        tabular=True,
    ),
}


def is_streamed(format_: str) -> bool:
    """Return whether rows of a format can be written to a pipe."""
    return FORMATS[format_].streamed


def is_tabular(format_: str) -> bool:
    """Return whether all rows of a format have the same fields."""
    return FORMATS[format_].tabular


def open_reader(format_: str, source: Source, field: str | None, *, own: bool = True) -> Reader:
    """Read rows, their inputs in that field; FieldError if there is none such.

    Unless rows shall have all their `own` fields, they may come with their input alone.
    """
    if format_ == "lines" and field:
        raise FieldError("--field names a field, and lines have none")
    known = FORMATS[format_]
    if isinstance(source, Several):
        return SeveralReader(source, lambda one: known.reader(one, field, own), known.tabular)
    return known.reader(source, field, own)


def open_writer(
    format_: str, source: Source, reader: Reader, output: Target | None, added: Added
) -> Writer:
    """Write what was read, and what it gained; OptionError for a name that two columns have."""
    first = reader.first if isinstance(reader, SeveralReader) else reader
    writer = FORMATS[format_].writer(source, first, output, added)
    if not writer.copies and len({*reader.columns}) < len(reader.columns):
        raise OptionError("the header has one name twice, so rows can only stay as they are")
    if isinstance(output, Path) and packing_of(output):
        check_packing(output)
        writer.seal = pack
    return writer


def _read_parquet(source: Source, field: str | None, own: bool) -> Reader:
    import_arrow(source.name)
    from .parquet.reader import ParquetReader

    return ParquetReader(source, field, own)


def _write_parquet(source: Source, reader: Reader, output: Target, added: Added) -> Writer:
    if added.row:
        raise OptionError(
            "rows of Parquet are written when all are done, in order", hint="Leave out --unordered."
        )
    import_arrow(str(output))
    from .parquet.alone import AloneWriter
    from .parquet.beside import BesideWriter
    from .parquet.reader import ParquetReader
    from .parquet.source import ParquetSource

    if isinstance(reader, ParquetReader):
        assert isinstance(source, ParquetSource | Several)
        return BesideWriter(source, reader.field, added)
    return AloneWriter(reader.columns, added)


def _read_sqlite(source: Source, field: str | None) -> Reader:
    from .sqlite.reader import SqliteReader  # some Pythons lack sqlite3

    return SqliteReader(source, field)


def _write_sqlite(source: Source, reader: Reader, output: Target, added: Added) -> Writer:
    from .sqlite.writer import SqliteWriter

    return SqliteWriter(source, reader, output, added)
