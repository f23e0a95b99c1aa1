"""A table, made of a journal in one transaction: all of it is there, or nothing.

A database that is not there is made in that transaction, too: a kill leaves an empty one, which
is sound. (A file of its own, renamed, would take with it what another process wrote meanwhile.)
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ...errors import OptionError
from ..journal import read_journal
from ..target import Table, path_of, side_of
from .database import find_table, open_database, quoted, sqlite_errors
from .runs import Run, find_run, record_run

_MAX_INTEGER = 2**63
_TYPES = {str: "TEXT", int: "INTEGER", bool: "INTEGER", float: "REAL", bytes: "BLOB"}
_AFTER = "after"


@dataclass(frozen=True)
class Head:
    """What begins a journal whose rows are to be added to a table, and not to make it anew.

    `after` is the last rowid of which the table had a row then (None: it had none).
    """

    after: int | None

    def __bytes__(self) -> bytes:
        return json.dumps({_AFTER: self.after}).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Head | None:
        """Read a journal's first line; None if that is a row."""
        return cls(json.loads(line)[_AFTER]) if line.startswith(b"{") else None

    def require(self, run: Run | None, table: Table, part: Path) -> Run:
        """Return what the table holds; OptionError if rows were to be added to another one."""
        last = run.last_rowid if run else None
        if run is None or (self.after is not None and (last is None or last < self.after)):
            raise OptionError(
                f"{table} is not what it was when {part} was begun",
                hint="Remove that one, and leave out --resume to write the table anew.",
            )
        return run


@dataclass(frozen=True)
class Shape:
    """The columns of a table: the input's own, of these types (None: by their values), and others.

    `error_at` is the place of the error; with `keyed`, a row of the journal ends in its rowid.
    """

    columns: list[str]
    own_types: list[str] | None
    gained_types: list[str]
    error_at: int
    keyed: bool


def make_table(part: Path, table: Table, shape: Shape) -> None:
    """Make a table of a journal, or add its rows to it, and note what it then holds.

    OptionError if a table is there that was not written here, or not of these rows.
    """
    path, name = path_of(table), quoted(table.name)
    job = json.loads(side_of(part).read_text(encoding="utf-8"))["job"]
    with part.open("rb") as lines:
        head = Head.of(lines.readline())
    types = None if head else _find_types(part, shape)
    with open_database(path, "rwc") as connection, sqlite_errors(path, "write"):
        with _transaction(connection):
            before = head.require(find_run(connection, table.name), table, part) if head else None
            if types is not None:
                check_free(connection, table)
                connection.execute(f"DROP TABLE IF EXISTS main.{name}")
                columns = [f"{quoted(n)} {t}" for n, t in zip(shape.columns, types, strict=True)]
                connection.execute(f"CREATE TABLE main.{name}({', '.join(columns)})")
            rows = _NewRows(part, shape, before)
            marks = ", ".join("?" * len(shape.columns))
            connection.executemany(f"INSERT INTO main.{name} VALUES ({marks})", rows)
            record_run(connection, table.name, rows.run(job))
        # In WAL mode the last to close does so: that may be who reads the input, and only reads.
        with suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint")


def check_free(connection: sqlite3.Connection, table: Table) -> None:
    """Raise OptionError for a table, view or index that is there and was not written here."""
    if find_table(connection, table.name) and find_run(connection, table.name) is None:
        raise OptionError(
            f"{table} is there already, and not as `map` wrote it",
            hint="Name another: -o 'sqlite:///FILE?table=T'. Or remove that one.",
        )


class _NewRows:
    """The rows of a journal that a table lacks, and what is to be noted of them."""

    def __init__(self, part: Path, shape: Shape, before: Run | None) -> None:
        self._part, self._shape = part, shape
        self._num_rows = before.num_rows if before else 0
        self._num_failed = before.num_failed if before else 0
        self._last = before.last_rowid if before else None

    def __iter__(self) -> Iterator[list[Any]]:
        for values in _read_rows(self._part):
            if self._shape.keyed:
                key = values.pop()
                if self._last is not None and key <= self._last:
                    continue  # a kill came between the commit and the journal's end
                self._last = key
            self._num_rows += 1
            self._num_failed += values[self._shape.error_at] is not None
            yield [_stored(value) for value in values]

    def run(self, job: dict[str, Any]) -> Run:
        """Return what the table holds when all of them are there."""
        return Run(job, self._num_rows, self._num_failed, self._last, datetime.now(UTC))


def _read_rows(part: Path) -> Iterator[list[Any]]:
    """Read the rows of a journal, without its head."""
    rows = read_journal(part)
    with part.open("rb") as lines:
        if Head.of(lines.readline()):
            next(rows)
    return rows


def _find_types(part: Path, shape: Shape) -> list[str]:
    """Return each column's type as CREATE TABLE has it, empty for none."""
    own = shape.own_types
    if own is None:
        own = _types_by_values(read_journal(part), len(shape.columns) - len(shape.gained_types))
    return [_show_type(kind) for kind in (*own, *shape.gained_types)]


def _show_type(kind: str) -> str:
    """Return a type as SQL has it: in quotes, any is a name."""
    if kind.upper() == "ANY":  # would turn texts into numbers, unless a table is STRICT
        return ""
    return kind if not kind or kind in _TYPES.values() else quoted(kind)


def _types_by_values(journal: Iterable[list[Any]], num_columns: int) -> list[str]:
    """Return each column's type; none where values are of several, so that all stay as they are."""
    kinds: list[set[str]] = [set() for _ in range(num_columns)]
    for values in journal:
        for kind, value in zip(kinds, values, strict=False):
            if value is not None:
                kind.add(_TYPES[type(_stored(value))])
    return [kind.pop() if len(kind) == 1 else "" for kind in kinds]


def _stored(value: Any) -> Any:
    """Return a value that SQLite takes: numbers beyond 64 bits and half characters as text."""
    if isinstance(value, int) and not -_MAX_INTEGER <= value < _MAX_INTEGER:
        return str(value)
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write all that the block writes, or nothing; others read on until then."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # it may have ended by itself
            connection.execute("ROLLBACK")
        raise
