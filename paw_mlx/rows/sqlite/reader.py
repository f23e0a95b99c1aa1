"""Rows of a SQLite source, as other formats have theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import FormatError, OptionError
from ..jsonl import dumps
from ..row import Row, choose_field
from ..source import Source
from .source import Rows, Unread


@dataclass(frozen=True)
class KeyedRow(Row):
    """A row, and the rowid that it has in its table."""

    key: int = 0


class SqliteReader:
    """Values as SQLite has them: numbers, texts, bytes and None. An input is a text.

    `types` are the columns' as a table declares them, None where values may be of others.
    OptionError for a source that is no database.
    """

    def __init__(self, source: Source, name: str | None) -> None:
        if not isinstance(source, Rows):
            raise OptionError(f"{source.name} is no SQLite database: that is a file of its own")
        self.columns = [column.name for column in source.columns]
        self.types = [column.type for column in source.columns] if source.typed else None
        self.num_rows, self._source = 0, source
        self._field = choose_field(name, self.columns)
        self._base: int | None = None  # the first row of all is behind it
        self._key: int | None = None  # the next one is

    def begin_behind(self, base: int | None, num_rows: int, key: int | None) -> None:
        """Leave out rows: those up to the rowid `base`, and `num_rows` more, which end in `key`."""
        self._base, self.num_rows, self._key = base, num_rows, key

    def __iter__(self) -> Iterator[Row | None]:
        for key, values in self._source.behind(self._key, self._base):
            self.num_rows += 1
            yield self._row(key, dict(zip(self.columns, values, strict=True)))

    def _row(self, key: int, fields: dict[str, Any]) -> Row:
        text, fault = fields[self._field], None
        for name, value in fields.items():
            if isinstance(value, Unread):
                fault = FormatError(f"the field {name!r} is {value.fault}")
                break
        if not isinstance(text, str):
            text, fault = "", fault or FormatError(f"the field {self._field!r} is no text")
        file = str(self._source.path)
        return KeyedRow(self.num_rows, text, fault, fields, dumps(fields), file, key)
