"""Rows on their way to a table of a SQLite database."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import DiskError, OptionError, PawError, listed
from ...runner import Result
from ..journal import JournalWriter
from ..part import differences
from ..row import Added, Reader, Row
from ..source import Source
from ..target import Table, Target, part_of, path_of
from ..urls import DEFAULT_TABLE
from .database import is_allowed, open_database, sqlite_errors
from .making import Head, Shape, check_free, make_table
from .reader import KeyedRow, SqliteReader
from .runs import RUNS, Run, check_runs, find_run
from .source import Rows

_MAX_COLUMNS = 2000  # SQLite's, unless it was built with another
_ANEW = "Leave out --resume to write it anew."


class SqliteWriter(JournalWriter):
    """Rows for a table, each with its rowid if they come in the order of a table that has such.

    With these, rows may be added to a table that is there. OptionError, before the first row, for
    a table that is there and was not written here, or is the input, and for names it cannot have.
    """

    def __init__(self, source: Source, reader: Reader, output: Target, added: Added) -> None:
        super().__init__(reader.columns, added, self._make_table)
        self._table = _as_table(output)
        self._path, self._part = path_of(output), part_of(output)
        self._reader: SqliteReader | None = None
        self._keys: Rows | None = None
        if isinstance(source, Rows) and isinstance(reader, SqliteReader):
            self._reader = reader
            self._keys = source if source.keyed and not added.row else None
            source.counted = self._keys is None
        _check_names(self._table, self.columns)
        self._check_target(source)

    def row(self, row: Row, answer: Result | PawError) -> bytes:
        """Write a row, its rowid last."""
        data = super().row(row, answer)
        if self._keys and isinstance(row, KeyedRow):
            return data.removesuffix(b"]\n") + b", %d]\n" % row.key
        return data

    def whole(self, lines: Iterator[bytes]) -> Iterator[tuple[int, int]]:
        """Find the lines that have an end; what they came of is then not read again."""
        if not self._keys:
            yield from super().whole(lines)
            return
        number = num_before = 0
        base: int | None = None
        key: int | None = None
        stored: int | None = None  # the last rowid that the table has already
        for line in lines:
            if not line.endswith(b"\n"):
                break
            if head := Head.of(line):
                run = head.require(find_written(self._table), self._table, self._part)
                base = key = head.after
                num_before, stored = run.num_rows, run.last_rowid
            else:
                number += 1
                key = int(line[line.rindex(b",") + 1 : -2])
                num_before += stored is None or key > stored
            yield len(line), number
        self._read_behind(base, number, key, num_before)

    def go_on(self, job: dict[str, Any]) -> None:
        """Leave out the rows that the table has already; OptionError if it is of another job.

        Where there are rows of an interrupted run, these go first.
        """
        if self._part.exists() and self._part.stat().st_size:
            return
        run = find_written(self._table)
        if run and (differ := differences(run.job, job)):
            raise OptionError(f"{self._table} is of another job: {listed(differ)}", hint=_ANEW)
        if run and self._keys:
            self.head = bytes(Head(run.last_rowid))
            self._read_behind(run.last_rowid, 0, run.last_rowid, run.num_rows)

    def _read_behind(self, base: int | None, number: int, key: int | None, before: int) -> None:
        """Read on behind a rowid up to which there were so many rows `before`."""
        if self._keys and self._reader:
            self._keys.check_before(key, before)
            self._reader.begin_behind(base, number, key)

    def _make_table(self, part: Path, target: Target) -> None:
        numeric = {self._added.probability: "REAL", self._added.row: "INTEGER"}
        shape = Shape(
            self.columns,
            self._reader.types if self._reader else None,
            [numeric.get(name, "TEXT") for name in self.gained],
            self.columns.index(self._added.error),
            self._keys is not None,
        )
        make_table(part, _as_table(target), shape)

    def _check_target(self, source: Source) -> None:
        if not self._path.exists():
            return
        if not is_allowed(self._path, os.W_OK):
            raise DiskError(f"cannot write {self._path}: Permission denied")
        reads = source.reads if isinstance(source, Rows) and source.lies_in(self._path) else ()
        if self._table.name.lower() in reads:
            raise OptionError(f"{self._table} is the input, too", hint="Name another table.")
        with open_database(self._path) as connection, sqlite_errors(self._path):
            check_runs(connection, self._path)
            check_free(connection, self._table)


def find_written(table: Table) -> Run | None:
    """Return what a table holds that was written here, None if there is none."""
    path = path_of(table)
    if not path.exists():
        return None
    with open_database(path) as connection, sqlite_errors(path):
        return find_run(connection, table.name)


def holds_all(output: Target, source: Source, changed_ns: int) -> bool:
    """Return whether a table was written here, of all rows of a source.

    OptionError if these are others now: of files, if one was changed since, at `changed_ns`.
    """
    run = find_written(_as_table(output))
    if run is None:
        return False
    if isinstance(source, Rows):
        return source.are_in(run)
    if changed_ns > run.finished_ns:
        raise OptionError(f"{output} was written before {source.name} was changed", hint=_ANEW)
    return True


def _as_table(output: Target) -> Table:
    return output if isinstance(output, Table) else Table(output, DEFAULT_TABLE)


def _check_names(table: Table, columns: list[str]) -> None:
    """Raise OptionError for names that SQLite does not take, or takes for one."""
    name = table.name.lower()
    if name.startswith("sqlite_") or name == RUNS or not _is_name(name):
        raise OptionError(f"no table of yours can be called {table.name!r}", hint="Name another.")
    if len(columns) > _MAX_COLUMNS:
        raise OptionError(f"{len(columns):,} columns, and SQLite takes {_MAX_COLUMNS:,} at most")
    seen: dict[str, str] = {}
    for column in columns:
        if not _is_name(column):
            raise OptionError(f"no column of SQLite can be called {column!r}")
        if (other := seen.setdefault(column.lower(), column)) is not column:
            raise OptionError(
                f"the columns {other!r} and {column!r} are one to SQLite",
                hint="Rename one: --output-field, or --query 'SELECT x AS y …', or in the input.",
            )


def _is_name(name: str) -> bool:
    """Return whether SQL can hold a name."""
    return "\0" not in name and name.encode(errors="replace").decode() == name
