"""The rows of a Parquet file, as other formats have theirs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyarrow import types

from ...errors import FieldError, FormatError, OptionError
from ..jsonl import dumps
from ..row import Row, choose_field
from ..source import MAX_LINE_BYTES, Source
from .source import ParquetSource, sound
from .values import converter

_KEPT_CHARS = 1 << 10  # of a longer input


class ParquetReader:
    """Rows with all their `own` fields as JSON values or bytes, or with their input alone.

    FieldError unless the input's column, `field`, holds text.
    """

    def __init__(self, source: Source, name: str | None, own: bool) -> None:
        if not isinstance(source, ParquetSource):
            raise OptionError(
                f"{source.name} cannot be read as Parquet, which is read at many places at once",
                hint="Name the file itself.",
            )
        self._source, self._own, self.num_rows = source, own, 0
        with sound(source.name):
            self.columns: list[str] = source.schema.names
            kept = source.schema if own else []
            self._converts = [(field.name, converter(field.type)) for field in kept]
        self.field = field = choose_field(name, self.columns)
        if (times := self.columns.count(field)) > 1:
            raise FieldError(f"{times} fields are called {field!r}: rename all of them but one")
        kind = source.schema.field(field).type
        if not _is_text(kind):
            raise FieldError(f"the field {field!r} is of type {kind}, and an input is text")

    def __iter__(self) -> Iterator[Row | None]:
        for batch in self._source.batches(None if self._own else [self.field]):
            # By its name: of "a.b", a field b of a column a comes, too.
            inputs = batch.column(batch.schema.get_field_index(self.field))
            for number in range(batch.num_rows):
                fields = {
                    name: convert(batch.column(column)[number])
                    for column, (name, convert) in enumerate(self._converts)
                }
                yield self._row(inputs[number], fields)

    def _row(self, scalar: Any, fields: dict[str, Any]) -> Row:
        self.num_rows += 1
        self._source.num_read += 1
        error: FormatError | None = None
        try:
            text = scalar.as_py()
        except UnicodeDecodeError as fault:
            data: bytes = fault.object
            error = FormatError(f"not UTF-8: byte {data[fault.start]:#04x} at {fault.start}")
            text = data.decode(errors="replace")
        if text is None:
            text, error = "", FormatError(f"the field {self.field!r} is no text")
        elif len(text) > MAX_LINE_BYTES:
            error = FormatError(
                f"an input of {len(text):,} characters, of which {_KEPT_CHARS:,} are kept"
            )
            text = text[:_KEPT_CHARS]
        if self._own:
            return Row(self.num_rows, text, error, fields, dumps(fields))
        return Row(self.num_rows, text, error, {self.field: text}, "")


def _is_text(kind: Any) -> bool:
    if types.is_dictionary(kind):
        kind = kind.value_type
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
