"""The formats of rows: by what name, by which suffix, read and written by whom."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..errors import FieldError, OptionError
from .csv import CsvReader, CsvWriter
from .jsonl import JsonlReader, JsonlWriter
from .row import Added, Reader, Writer
from .source import Input
from .text import LinesReader, LinesWriter


class RowFormat(NamedTuple):
    """How rows of one format are known, read and written."""

    suffixes: tuple[str, ...]
    reader: Callable[[Input, str | None], Reader]  # of a source; the field of the input, if named
    writer: Callable[[Reader, Path | None, Added], Writer]


FORMATS = {
    "lines": RowFormat(
        (".txt",),
        lambda source, field: LinesReader(source),
        lambda source, output, added: LinesWriter(),
    ),
    "jsonl": RowFormat(
        (".jsonl", ".ndjson"),
        JsonlReader,
        lambda source, output, added: JsonlWriter(source, added),
    ),
    "csv": RowFormat((".csv", ".tsv"), CsvReader, CsvWriter),
}
SUFFIXES = {suffix: name for name, known in FORMATS.items() for suffix in known.suffixes}
_OTHERS = {
    ".json", ".xlsx", ".xls", ".ods", ".parquet", ".arrow", ".feather", ".db", ".sqlite",
    ".gz", ".bz2", ".xz", ".zst", ".zip",
}  # fmt: skip


def format_of(path: Path | None) -> str | None:
    """Return the format that a file's suffix names; OptionError for one that is not known here."""
    suffix = path.suffix.lower() if path else ""
    if suffix in _OTHERS:
        raise OptionError(
            f"{path} is neither text nor JSON lines nor csv, by its suffix",
            hint="Make it .jsonl, .csv or .txt. An input may say what it is with --format.",
        )
    return SUFFIXES.get(suffix)


def open_reader(format_: str, source: Input, field: str | None) -> Reader:
    """Read rows, their inputs in that field; FieldError if there is none such."""
    if format_ == "lines" and field:
        raise FieldError("--field names a field, and lines have none")
    return FORMATS[format_].reader(source, field)


def open_writer(format_: str, source: Reader, output: Path | None, added: Added) -> Writer:
    """Write what was read, and what it gained; OptionError for a name that two columns have."""
    writer = FORMATS[format_].writer(source, output, added)
    if not writer.copies and len({*source.columns}) < len(source.columns):
        raise OptionError("the header has one name twice, so rows can only stay as they are")
    return writer
