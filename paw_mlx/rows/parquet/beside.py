"""What rows of Parquet gained, written beside the columns that they were read from.

These are read again when all rows are done, so they stay as they are, whatever their types; on the
way there, what was gained is all that is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...errors import FieldError, FormatError
from ..journal import JournalWriter, read_journal
from ..row import Added
from ..several import Several
from ..target import Target
from .groups import CODEC, check_writable, gained_fields, make_array, writing
from .source import ParquetSource, open_parquet

# What others say of all columns, and read instead of the columns: it would hide what was gained.
_SCHEMAS = {b"org.apache.spark.sql.parquet.row.metadata", b"iceberg.schema"}


class BesideWriter(JournalWriter):
    """What rows gain whose input is in a `field` of one or several files; at the end both together.

    FieldError for files whose columns differ, FormatError for columns that cannot be written.
    """

    def __init__(self, source: ParquetSource | Several, field: str, added: Added) -> None:
        super().__init__((), added, self._join)
        paths = source.paths if isinstance(source, Several) else [source.path]
        self._files = list(zip(paths, source.stats, strict=True))
        self._name, self._field, self._gained = source.name, field, gained_fields(added)
        own: Any = None
        for path in paths:
            with open_parquet(path) as one:
                if own is None:
                    own, self._row_bytes = one.schema, one.row_bytes
                _check_same(own, one.schema, paths[0], path)
        metadata = _still_true(own.metadata or {}, alone=len(paths) == 1)
        self._schema = pa.schema([*own, *self._gained], metadata=metadata)
        check_writable(self._schema, source.name)

    def _join(self, part: Path, target: Target) -> None:
        """Write the files' rows again, with what they gained."""
        gains, num_rows = read_journal(part), 0
        with writing(
            target, self._schema, row_bytes=self._row_bytes, codec=self._codec()
        ) as groups:
            for batch in self._read_again():
                rows = list(islice(gains, batch.num_rows))
                num_rows += len(rows)
                if len(rows) < batch.num_rows:
                    raise FormatError(f"{part} has {num_rows:,} rows, and {self._name} has more")
                columns = [
                    make_array([row[number] for row in rows], field.type)
                    for number, field in enumerate(self._gained)
                ]
                columns = [*batch.columns, *columns]
                groups.add(pa.RecordBatch.from_arrays(columns, schema=self._schema))
            if next(gains, None) is not None:
                raise FormatError(f"{self._name} has {num_rows:,} rows, and {part} has more")

    def _codec(self) -> str:
        """Return how the input is compressed in the first file."""
        with open_parquet(self._files[0][0]) as one:
            name = one.codec_of(self._field) or CODEC
        if name == "uncompressed":
            return "none"
        return name if pa.Codec.is_available(name) else CODEC

    def _read_again(self) -> Iterator[Any]:
        for path, before in self._files:
            with open_parquet(path) as one:
                now = one.stats[0]
                same = os.path.samestat(now, before) and now.st_size == before.st_size
                if not same or now.st_mtime_ns != before.st_mtime_ns:
                    raise FormatError(f"{path} has changed since it was read")
                yield from one.batches()


def _check_same(own: Any, other: Any, first: Path, path: Path) -> None:
    """Raise FieldError for a column that has another type in another file."""
    for one, also in zip(own, other, strict=True):
        if not one.equals(also):
            raise FieldError(
                f"the column {one.name!r} is {_typed(also)} in {path}, and {_typed(one)} in {first}"
            )


def _typed(field: Any) -> str:
    return f"{field.type}{'' if field.nullable else ' not null'}"


def _still_true(metadata: dict[bytes, bytes], alone: bool) -> dict[bytes, bytes]:
    """Return a schema's metadata without what would be wrong of more columns, or of more rows."""
    kept = {name: value for name, value in metadata.items() if name not in _SCHEMAS}
    if not (alone and _is_plain_pandas(kept.get(b"pandas", b"{}"))):
        kept.pop(b"pandas", None)
    return kept


def _is_plain_pandas(data: bytes) -> bool:
    """Return whether pandas takes any text for a column's name: not where names are numbers."""
    try:
        levels = json.loads(data).get("column_indexes", [])
        return [level["pandas_type"] for level in levels] in ([], ["unicode"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return False
