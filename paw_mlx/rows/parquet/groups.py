"""Batches of rows on their way to a Parquet file: in row groups and pages of bounded bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from pyarrow import parquet as pq

from ...errors import FormatError
from ...files import replacing
from ..row import Added
from ..target import Target, path_of
from .source import reason_of

CODEC = "zstd"
_GROUP_BYTES, _GROUP_ROWS = 32 << 20, 1 << 17
_PAGE_BYTES, _PAGE_ROWS = 1 << 20, 1 << 10  # a page may have this many more than its share


class RowGroups:
    """A Parquet file that is being written."""

    def __init__(self, writer: Any) -> None:
        self._writer, self._num_bytes, self._num_rows = writer, 0, 0
        self._batches: list[Any] = []

    def add(self, batch: Any) -> None:
        """Add rows; those of a row group are written when it is full."""
        self._batches.append(batch)
        self._num_bytes += batch.nbytes
        self._num_rows += batch.num_rows
        if self._num_bytes >= _GROUP_BYTES or self._num_rows >= _GROUP_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what is held as a row group."""
        if self._batches:
            table = pa.Table.from_batches(self._batches)
            self._writer.write_table(table, row_group_size=max(self._num_rows, 1))
        self._batches, self._num_bytes, self._num_rows = [], 0, 0


@contextmanager
def writing(
    target: Target, schema: Any, *, row_bytes: int, codec: str = CODEC
) -> Iterator[RowGroups]:
    """Write a Parquet file, of rows of about so many bytes; there as a whole or not at all.

    DiskError if the disk refuses, FormatError for what Parquet does not take.
    """
    path = path_of(target)
    with (
        replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        _writer(file, schema, row_bytes, codec) as writer,
    ):
        groups = RowGroups(writer)
        try:
            yield groups
            groups.flush()
        except pa.ArrowException as error:
            raise FormatError(f"cannot write {path} as Parquet: {reason_of(error)}") from error


def check_writable(schema: Any, name: str) -> None:
    """Raise FormatError for columns that pyarrow reads and does not write."""
    try:
        with _writer(pa.BufferOutputStream(), schema, 1, CODEC) as file:
            file.write_table(schema.empty_table())
    except pa.ArrowException as error:
        raise FormatError(
            f"{name} cannot be written as Parquet again: {reason_of(error)}", hint="Write .jsonl."
        ) from error


def gained_fields(added: Added) -> list[Any]:
    """Return the columns that rows gain."""
    kinds = {added.probability: pa.float64(), added.row: pa.int64()}
    return [pa.field(name, kinds.get(name, pa.string())) for name in map(sound_text, added.columns)]


def make_array(values: list[Any], kind: Any) -> Any:
    """Return a column of a batch; half a character in a text becomes a question mark."""
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        return pa.array([value and sound_text(value) for value in values], kind)


def sound_text(text: str) -> str:
    """Return a text without halves of characters, which Parquet cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _writer(where: Any, schema: Any, row_bytes: int, codec: str) -> Any:
    return pq.ParquetWriter(
        where,
        schema,
        compression=codec,
        write_batch_size=max(1, min(_PAGE_BYTES // max(row_bytes, 1), _PAGE_ROWS)),
        write_page_checksum=True,
    )
