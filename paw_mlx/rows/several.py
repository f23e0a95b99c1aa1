"""Several files as one source: their rows one file after the other, numbered throughout."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import FieldError, NotFound, OptionError, listed
from .csv import CsvReader
from .jsonl import JsonlReader
from .row import Reader, Row
from .source import Source
from .suffixes import format_of

_END_BYTES = 1 << 12  # of each file, first and last, that tell it from another

OpenReader = Callable[[Source], Reader]


class Several:
    """Files of one format (that is named, or that their names tell), opened one after the other.

    NotFound for one that cannot be read, OptionError for several formats, or what is no file.
    """

    wake = None

    def __init__(
        self,
        paths: Sequence[Path],
        open_one: Callable[[Path], AbstractContextManager[Source]],
        format: str | None = None,
    ) -> None:
        self.paths, self.open_one = paths, open_one
        self.name = f"{paths[0]} and {len(paths) - 1:,} more"
        self.format = format or _one_format(paths)
        self.stats = tuple(map(_stat, paths))
        self._num_before = 0  # bytes of the files that were read
        self._current: Source | None = None

    @property
    def num_bytes(self) -> int:
        """How many bytes of all files were read."""
        return self._num_before + (self._current.num_bytes if self._current else 0)

    def identity(self) -> dict[str, Any]:
        """Return the first one's name and how many there are, and what tells all their contents."""
        digest = hashlib.sha256()
        for path, info in zip(self.paths, self.stats, strict=True):
            digest.update(f"{path.resolve()}\0{info.st_size}\0".encode("utf-8", "surrogateescape"))
            digest.update(hashlib.sha256(_ends(path, info.st_size)).digest())
        return {
            "input": f"{self.paths[0].resolve()} and {len(self.paths) - 1:,} more",
            "input_bytes": sum(info.st_size for info in self.stats),
            "input_head": digest.hexdigest(),
        }

    def sources(self) -> Iterator[Source]:
        """Open one file after the other; each is closed before the next is opened."""
        for path, info in zip(self.paths, self.stats, strict=True):
            try:
                with self.open_one(path) as self._current:
                    yield self._current
            finally:
                self._current = None
            self._num_before += info.st_size


class SeveralReader:
    """The rows of several files, which say their file; `first` reads one, and is asked for no row.

    With `tabular`, all have the columns of the first that has some: FieldError, before there is a
    row, for one that has others. Else a row without the field is one that fails, whatever its file.
    """

    def __init__(self, several: Several, open_reader: OpenReader, tabular: bool) -> None:
        self._several, self._open_reader, self.num_rows = several, open_reader, 0
        self._first_path: Path | None = None
        for path in several.paths:
            with several.open_one(path) as source:
                reader = self._open(path, source)
            if self._first_path is None and (reader.columns or path == several.paths[-1]):
                self.first, self._first_path = reader, path
                if not tabular:
                    break
        self.columns = self.first.columns

    def __iter__(self) -> Iterator[Row | None]:
        for path, source in zip(self._several.paths, self._several.sources(), strict=True):
            for row in self._open(path, source):
                if row is None:
                    yield None
                    continue
                self.num_rows += 1
                yield replace(row, number=self.num_rows, file=str(path))

    def _open(self, path: Path, source: Any) -> Reader:
        """Read a file as those before it are read."""
        if self._first_path and isinstance(self.first, JsonlReader):
            return self.first.read_on(source)
        try:
            reader = self._open_reader(source)
        except FieldError as error:
            raise FieldError(f"{path}: {error}") from error
        if self._first_path and reader.columns:
            self._check(path, reader)
        return reader

    def _check(self, path: Path, reader: Reader) -> None:
        """Raise FieldError unless a table is one with the first."""
        first, names = self._first_path, self.first.columns
        if reader.columns != names:
            differ = sorted({*reader.columns} ^ {*names})
            how = f"by {listed(differ)}" if differ else "in their order"
            raise FieldError(f"the columns of {path} differ from those of {first} {how}")
        if isinstance(reader, CsvReader) and isinstance(self.first, CsvReader):
            one, other = (found.dialect.between for found in (reader, self.first))
            if one != other:
                raise FieldError(f"{path} parts its fields by {one!r}, and {first} by {other!r}")


def _one_format(paths: Sequence[Path]) -> str:
    """Return the format that all names tell; OptionError for several."""
    formats: dict[str, int] = {}
    for path in paths:
        name = format_of(path) or "lines"
        formats[name] = formats.get(name, 0) + 1
    if len(formats) > 1:
        counts = listed([f"{count:,} of {name}" for name, count in formats.items()])
        raise OptionError(
            f"these {len(paths):,} files are of several formats: {counts}",
            hint="Name those of one, such as 'FOLDER/*.csv', or say with --format what all are.",
        )
    return next(iter(formats))


def _stat(path: Path) -> os.stat_result:
    """Return what the disk knows of a file; what cannot be read is said before the first is."""
    try:
        info = path.stat()
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(info.st_mode):
        raise OptionError(
            f"{path} is no regular file, and such a one comes alone",
            hint="Join what it gives with the others on standard input, for example by `cat`.",
        )
    _ends(path, 0)
    return info


def _ends(path: Path, num_bytes: int) -> bytes:
    """Return what a file begins and ends with; NotFound if it cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            head = file.read(_END_BYTES)
            file.seek(max(num_bytes - _END_BYTES, 0))
            return head + file.read(_END_BYTES)
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from error
