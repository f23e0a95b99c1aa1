"""A Parquet file as a source of rows: checked first, then read a little at a time."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet as pq
from pyarrow import types

from ...errors import FormatError, NotFound, OptionError, PawError
from ..source import MAX_LINE_BYTES
from .held import MAX_ROWS, Leaf, leaves
from .pages import Pages

_MAGIC, _SECRET = b"PAR1", b"PARE"
_TAIL_BYTES = 8  # the footer's size, and the magic again
_MAX_FOOTER_BYTES = 256 << 20
_MAX_STRING_BYTES = 16 << 20
_MAX_ITEMS = 200_000  # of one list of a footer: what a list claims is allocated before it is read
_MAX_COLUMNS = 20_000  # of which pyarrow holds some 10 KB each
_HEAD_BYTES = 1 << 20  # at most, at either end, that tell a file from another
_BUFFER_BYTES = 1 << 16  # read at once
_BATCH_BYTES = 1 << 20


class ParquetSource:
    """A Parquet file. `columns` may be read in batches of about a MB, or of a row if that is more.

    FormatError for what is no such file, damaged or encrypted.
    """

    format, wake = "parquet", None

    def __init__(self, path: Path, descriptor: int, file: Any) -> None:
        self.path, self.name = path, str(path)
        self._descriptor, self.num_read = descriptor, 0  # rows
        self.stats = (os.fstat(self._descriptor),)
        self._footer_bytes = footer_bytes = self._check()
        with sound(self.name):
            self._file = pq.ParquetFile(
                file,
                buffer_size=_BUFFER_BYTES,
                pre_buffer=False,
                thrift_string_size_limit=max(footer_bytes, _MAX_STRING_BYTES),
                thrift_container_size_limit=min(footer_bytes, _MAX_ITEMS),
                page_checksum_verification=True,
            )
            self.meta = self._file.metadata
            if self.meta.num_columns > _MAX_COLUMNS:
                raise FormatError(
                    f"{path} has {self.meta.num_columns:,} columns, and at most {_MAX_COLUMNS:,} "
                    "are read",
                    hint="Write those that are needed to a file of their own.",
                )
            self.schema = self._file.schema_arrow
        if not len(self.schema):
            raise FormatError(f"{path} holds no columns")

    @property
    def num_bytes(self) -> int:
        """How many bytes of the file were read, as the share of its rows that were."""
        return self.stats[0].st_size * self.num_read // max(self.meta.num_rows, 1)

    def identity(self) -> dict[str, Any]:
        """Return its name, its size, and a hash of its head and its footer."""
        size = self.stats[0].st_size
        digest = hashlib.sha256(os.pread(self._descriptor, _HEAD_BYTES, 0))
        digest.update(os.pread(self._descriptor, _HEAD_BYTES, max(size - _HEAD_BYTES, 0)))
        return {
            "input": str(self.path.resolve()),
            "input_bytes": size,
            "input_head": digest.hexdigest(),
        }

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[Any]:
        """Read the rows in batches, of these columns alone (None: of all)."""
        with sound(self.name):
            pages, leaves = self._pages, self._leaves(columns)
            for number in range(self.meta.num_row_groups):
                group = self.meta.row_group(number)
                num_rows, most_rows = 0, pages.check(number, leaves)
                for batch in self._file.iter_batches(
                    min(most_rows, _rows_at_once(group)),
                    row_groups=[number],
                    columns=columns,
                    use_threads=False,
                ):
                    _check_batch(batch)
                    self._check_rows(batch, num_rows)
                    num_rows += batch.num_rows
                    yield batch
                if num_rows != group.num_rows:
                    raise FormatError(
                        f"{self.name} is damaged: its row group {number + 1:,} holds "
                        f"{num_rows:,} rows, and should {group.num_rows:,}"
                    )

    @property
    def row_bytes(self) -> int:
        """About how many bytes a row has, not compressed."""
        groups = map(self.meta.row_group, range(self.meta.num_row_groups))
        return sum(group.total_byte_size for group in groups) // max(self.meta.num_rows, 1)

    def codec_of(self, column: str) -> str | None:
        """Return how a column is compressed; None of a file without rows.

        It has been read: pyarrow ends the process where it is asked about one that is not sound.
        """
        schema = self._file.schema
        found = [i for i in range(len(schema)) if schema.column(i).path == column]
        if not found or not self.meta.num_row_groups:
            return None
        return self.meta.row_group(0).column(found[0]).compression.lower()

    @cached_property
    def _pages(self) -> Pages:
        end = self.stats[0].st_size - _TAIL_BYTES
        return Pages(self.name, self._descriptor, self._footer_bytes, end)

    def _leaves(self, columns: Sequence[str] | None) -> list[Leaf]:
        """Return what is stored of columns; as pyarrow has it, "a.b" is also a field b of a."""
        found = list(leaves(self.schema, self._file.schema))
        if columns is None:
            return found
        return [one for one in found if f"{one.path}.".startswith(tuple(f"{c}." for c in columns))]

    def _check_rows(self, batch: Any, before: int) -> None:
        """Raise FormatError for a row of more than a line may have, and than the file has."""
        most = max(MAX_LINE_BYTES, self.stats[0].st_size)
        if batch.nbytes <= most:
            return
        for number in range(batch.num_rows):
            held = sum(_own_bytes(column.slice(number, 1)) for column in batch.columns)
            if held > most:
                raise FormatError(
                    f"{self.name} is a file of {self.stats[0].st_size:,} bytes, and after "
                    f"{before + number:,} rows of a row group it has one of {held:,}"
                )

    def _check(self) -> int:
        """Return the bytes of the footer; FormatError unless it can be one."""
        size = self.stats[0].st_size
        head = os.pread(self._descriptor, 512, 0)
        tail = os.pread(self._descriptor, _TAIL_BYTES, max(size - _TAIL_BYTES, 0))
        if head[:4] == _SECRET or tail[4:] == _SECRET:
            raise FormatError(f"{self.name} is encrypted, and no key can be given here")
        if head[:4] != _MAGIC or size < len(_MAGIC) + _TAIL_BYTES:
            from ...formats.untrusted import refuse_stand_in

            refuse_stand_in(head, self.name)
            raise FormatError(f"{self.name} is no Parquet file")
        if tail[4:] != _MAGIC:
            raise FormatError(
                f"{self.name} has lost its end: after {size:,} bytes there is no footer",
                hint="Get it anew.",
            )
        (footer_bytes,) = struct.unpack("<I", tail[:4])
        if footer_bytes > min(size - len(_MAGIC) - _TAIL_BYTES, _MAX_FOOTER_BYTES):
            raise FormatError(
                f"{self.name} is damaged: its {size:,} bytes claim a footer of {footer_bytes:,}"
            )
        return footer_bytes


@contextmanager
def open_parquet(path: Path) -> Iterator[ParquetSource]:
    """Open a Parquet file; NotFound if it cannot be read, OptionError for a pipe."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OptionError(f"{path} is no regular file, and Parquet is read at many places")
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from error
    with file, pa.OSFile(str(path)) as same:  # which takes half the memory of Python's
        yield ParquetSource(path, file.fileno(), same)


@contextmanager
def sound(name: str) -> Iterator[None]:
    """Raise what pyarrow says of a file in the block as one FormatError."""
    try:
        yield
    except PawError:
        raise
    except (pa.ArrowException, OSError, MemoryError, ValueError, RecursionError) as error:
        raise FormatError(f"{name} is no sound Parquet file: {reason_of(error)}") from error


def reason_of(error: BaseException) -> str:
    """Return what pyarrow says, which may be of many lines and quote a file, as part of one."""
    from ...formats.untrusted import shown

    return shown(str(error).partition("\n")[0].rstrip(".") or type(error).__name__, 160)


def _check_batch(batch: Any) -> None:
    """Raise ArrowInvalid for what would end the process when it is written or looked into."""
    batch.validate()
    for column in batch.columns:
        if _has_dictionary(column.type):
            column.validate(full=True)


def _rows_at_once(group: Any) -> int:
    """Return how many rows of a group are read at once.

    Its columns are asked nothing: pyarrow ends the process where one is not sound.
    """
    fitting = _BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)
    return max(1, min(fitting, MAX_ROWS))


def _own_bytes(value: Any) -> int:
    """Return the bytes of a column of one row: of what it says, not of all its dictionary."""
    if types.is_dictionary(value.type):
        value = value.dictionary_decode()
    return int(value.nbytes)


def _has_dictionary(kind: Any) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _has_dictionary(kind.storage_type)
    inner = (kind.field(number).type for number in range(kind.num_fields))
    return types.is_dictionary(kind) or any(map(_has_dictionary, inner))
