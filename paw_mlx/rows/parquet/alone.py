"""Rows of other formats in a Parquet file: first what their columns hold, then the rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..journal import JournalWriter, read_journal
from ..jsonl import as_base64
from ..row import Added
from ..target import Target
from .groups import gained_fields, make_array, sound_text, writing

_BATCH_ROWS, _BATCH_CHARS = 1 << 10, 1 << 20
_EXACT = 1 << 53  # up to which a float holds every integer


class AloneWriter(JournalWriter):
    """Rows with their own fields: a column of numbers stays one, and what is mixed becomes text."""

    def __init__(self, own: Sequence[str], added: Added) -> None:
        super().__init__(own, added, self._write)

    def _write(self, part: Path, target: Target) -> None:
        kinds, num_rows = _find_kinds(part, len(self._own))
        own = [
            pa.field(sound_text(name), kind) for name, kind in zip(self._own, kinds, strict=True)
        ]
        schema = pa.schema([*own, *gained_fields(self._added)])
        row_bytes = part.stat().st_size // max(num_rows, 1)
        with writing(target, schema, row_bytes=row_bytes) as groups:
            for rows in _in_batches(read_journal(part)):
                columns = [
                    make_array([_as(row[number], field.type) for row in rows], field.type)
                    for number, field in enumerate(schema)
                ]
                groups.add(pa.RecordBatch.from_arrays(columns, schema=schema))


def _find_kinds(part: Path, num_own: int) -> tuple[list[Any], int]:
    """Return the type of each own column, and how many rows there are."""
    held: list[set[str]] = [set() for _ in range(num_own)]
    num_rows = 0
    for row in read_journal(part):
        num_rows += 1
        for found, value in zip(held, row[:num_own], strict=True):
            if value is not None:
                found.add(_kind(value))
    return [_column_kind(found) for found in held], num_rows


def _kind(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return (
            "small" if abs(value) <= _EXACT else "int" if -(1 << 63) <= value < 1 << 63 else "big"
        )
    return type(value).__name__


def _column_kind(held: set[str]) -> Any:
    """Return the type of a column that holds values of these kinds."""
    if not held:
        return pa.string()
    for kind, holds in (
        (pa.int64(), {"small", "int"}),
        (pa.float64(), {"small", "float"}),
        (pa.bool_(), {"bool"}),
        (pa.binary(), {"bytes"}),
    ):
        if held <= holds:
            return kind
    return pa.string()


def _as(value: Any, kind: Any) -> Any:
    """Return a value as its column holds it: as text, what is none is JSON."""
    if kind != pa.string() or value is None or isinstance(value, str):
        return value
    return as_base64(value) if isinstance(value, bytes) else json.dumps(value)


def _in_batches(rows: Iterator[list[Any]]) -> Iterator[list[list[Any]]]:
    """Give rows in batches of bounded size."""
    batch: list[list[Any]] = []
    num_chars = 0
    for row in rows:
        batch.append(row)
        num_chars += sum(len(value) for value in row if isinstance(value, str | bytes))
        if len(batch) >= _BATCH_ROWS or num_chars >= _BATCH_CHARS:
            yield batch
            batch, num_chars = [], 0
    if batch:
        yield batch
