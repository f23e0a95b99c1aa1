"""From a database and a name, or a query, to a source of rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import NotFound, OptionError, listed
from ..target import Table
from .database import (
    Column,
    error_code,
    find_columns,
    find_table,
    open_database,
    quoted,
    sqlite_errors,
)
from .runs import RUNS, names_written
from .source import Rows, Unread

_NAME_ONE = "Name one: sqlite:///FILE?table=T, or give a --query."
_QUERY = "paw_mlx_query"  # a temporary view


@contextmanager
def open_rows(path: Path, table: str | None = None, query: str | None = None) -> Iterator[Rows]:
    """Open a table or a view, what a query selects, or without either a database's only table.

    NotFound for what is not there, OptionError for a table that has to be named and for what is
    no query, and what `sqlite_errors` says of the file.
    """
    with open_database(path) as connection:
        connection.text_factory = _decode
        with sqlite_errors(path):
            if query is not None:
                rows = Rows(connection, path, f"the query on {path}", {"query": query})
                rows.copy(_columns_of(connection, query), query)
            else:
                rows = _open_table(connection, path, table)
        yield rows


def _open_table(connection: sqlite3.Connection, path: Path, table: str | None) -> Rows:
    names = _names_in(connection)
    if table is None:
        ours = names_written(connection)
        tables = [name for name, kind in names.items() if kind == "table"]
        meant = [name for name in tables if name.lower() not in ours] or tables
        if len(meant) != 1:
            have = f"the tables and views {listed([*names], 12)}" if names else "no table"
            raise OptionError(f"{path} holds {have}", hint=_NAME_ONE if names else None)
        table = meant[0]
    found = find_table(connection, table)
    if found is None or found.kind == "index":
        raise NotFound(
            f"{path} has no table {table!r}",
            hint=f"It has {listed([*names], 12)}." if names else "It has none at all.",
        )
    rows = Rows(connection, path, str(Table(path, found.name)), {"table": found.name})
    columns, rows.typed = find_columns(connection, "main", found.name), found.is_plain
    if key := _find_key(connection, found.name, columns) if found.is_plain else None:
        rows.use(columns, found.name, key)
        return rows
    names_ = ", ".join(f"t.{quoted(column.name)}" for column in columns)
    order = sorted((c for c in columns if c.key), key=lambda column: column.key)
    by = ", ".join(f"t.{quoted(column.name)}" for column in order)
    select = f"SELECT {names_} FROM main.{quoted(found.name)} AS t"
    rows.copy(columns, f"{select} ORDER BY {by}" if by else select)
    return rows


def _find_key(connection: sqlite3.Connection, table: str, columns: list[Column]) -> str | None:
    """Return a name of a table's rowids that no column has; None if there is none, or they lack."""
    taken = {column.name.lower() for column in columns}
    for name in ("rowid", "_rowid_", "oid"):
        if name not in taken:
            try:
                connection.execute(f"SELECT t.{name} FROM main.{quoted(table)} AS t LIMIT 0")
            except sqlite3.OperationalError:  # WITHOUT ROWID
                return None
            return name
    return None


def _names_in(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the tables and views of a database by their names: which of both they are."""
    found = connection.execute(
        "SELECT name, type FROM main.sqlite_master WHERE type IN ('table', 'view') "
        "AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name"
    )
    return {str(name): kind for name, kind in found if str(name).lower() != RUNS}


def _columns_of(connection: sqlite3.Connection, query: str) -> list[Column]:
    """Return the columns of a query; OptionError for what is none, or more than one."""
    try:
        connection.execute(f"CREATE TEMP VIEW {_QUERY} AS {query}")
        return find_columns(connection, "temp", _QUERY)
    except (sqlite3.Error, sqlite3.Warning) as error:
        if error_code(error) not in (0, sqlite3.SQLITE_ERROR):
            raise
        raise OptionError(
            f"the query is none that SQLite knows: {error}",
            hint="It has to be one SELECT, such as 'SELECT id, body FROM mail ORDER BY id'.",
        ) from error


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        fault = f"not UTF-8: byte {data[error.start]:#04x} at {error.start}"
        return Unread.of(data.decode(errors="replace"), fault)
