"""A SQLite database: how it is opened, what is in it, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
import stat
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from ...errors import DiskError, FormatError, NotFound, PawError
from ...files import read_errors
from ..source import MAX_LINE_BYTES

_BUSY_S = 10.0
_DISK = {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL,
}  # fmt: skip
_NEEDS_FOLDER = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
# What a kill in the middle of a transaction leaves to whoever may write.
_UNFINISHED = {sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY}
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")  # ends a journal that names another file
_FAULTS = (sqlite3.Error, sqlite3.Warning, UnicodeError, OverflowError, MemoryError)


class Column(NamedTuple):
    """A column: its name, its type as it was declared, its place in the primary key (0: none)."""

    name: str
    type: str
    key: int


class Entry(NamedTuple):
    """What a database has under a name: its kind is table, view or index."""

    name: str
    kind: str
    definition: str

    @property
    def is_plain(self) -> bool:
        """Whether it is a table, and no virtual one: its values are of its types."""
        return self.kind == "table" and not self.definition.upper().startswith("CREATE VIRTUAL")


def quoted(name: str) -> str:
    """Return a name as SQL has it, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def open_database(path: Path, mode: str = "ro") -> Iterator[sqlite3.Connection]:
    """Open a database: `ro` to read, `rw` to write, `rwc` also if it is not there.

    Nothing that a file says is run but what reading takes. NotFound, or what `sqlite_errors`
    says.
    """
    if mode != "rwc":
        _check_readable(path)
    with sqlite_errors(path):
        try:
            connection = _connect(path, mode)
        except sqlite3.OperationalError as error:
            if mode != "ro" or error.sqlite_errorcode not in _UNFINISHED:
                raise
            _connect(path, "rw").close()  # puts things right, as all that open it do
            connection = _connect(path, mode)
    with closing(connection):
        yield connection


@contextmanager
def sqlite_errors(path: Path, doing: str = "read") -> Iterator[None]:
    """Raise what SQLite finds in the block as a PawError: `cannot {doing} {path}: …`."""
    try:
        yield
    except _FAULTS as error:
        if isinstance(error, PawError):
            raise
        raise _explain(path, doing, error) from error


def error_code(error: BaseException) -> int:
    """Return SQLite's primary code of an error; 0 if it is none of SQLite's."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def find_columns(connection: sqlite3.Connection, schema: str, table: str) -> list[Column]:
    """Return the columns of a table or a view that a SELECT * gives."""
    found = connection.execute(f"PRAGMA {schema}.table_xinfo({quoted(table)})")
    return [
        Column(name, kind or "", key)
        for _, name, kind, _, _, key, hidden in found
        if hidden != 1  # a virtual table's
    ]


def find_table(connection: sqlite3.Connection, name: str) -> Entry | None:
    """Return what has a name in a database, None for nothing."""
    found = connection.execute(
        "SELECT name, type, sql FROM main.sqlite_master "
        "WHERE name = ? COLLATE NOCASE AND type IN ('table', 'view', 'index')",
        [name],
    )
    row = found.fetchone()
    return Entry(*map(str, row)) if row else None


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    path = path.resolve()
    if mode != "ro":
        _check_journal(path)
    uri = f"file:{quote(os.fsencode(path))}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None)
    try:
        connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
        if mode == "ro":
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_LINE_BYTES)
        if sys.version_info >= (3, 12):
            connection.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0"):
            connection.execute(f"PRAGMA {pragma}").close()
        connection.execute("SELECT count(*) FROM main.sqlite_master").close()
    except BaseException:
        connection.close()
        raise
    return connection


def _check_journal(path: Path) -> None:
    """Raise FormatError if a journal beside a database names a file of several databases' change.

    Whoever rolls it back has SQLite remove that file, and it may be anybody's.
    """
    journal = path.with_name(f"{path.name}-journal")
    if not journal.is_file():
        return
    with read_errors(journal), journal.open("rb") as file:
        is_hot = file.read(1) not in (b"", b"\0")
        file.seek(max(file.seek(0, os.SEEK_END) - len(_JOURNAL_MAGIC), 0))
        if is_hot and file.read() == _JOURNAL_MAGIC:
            raise FormatError(
                f"{path} was left amid a change of several databases: undoing it would remove "
                f"a file that {journal.name} names",
                hint="If all of it is yours, open it once with `sqlite3`, which undoes the change.",
            )


def _check_readable(path: Path) -> None:
    """Raise NotFound unless a path leads to a file that one may read.

    It is not opened: closing it would let go of the locks that SQLite has on it.
    """
    try:
        info = path.stat()
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from error
    if not stat.S_ISREG(info.st_mode):
        raise NotFound(f"cannot read {path}: it is no regular file, as a database has to be")
    if not is_allowed(path, os.R_OK):
        raise NotFound(f"cannot read {path}: Permission denied")


def is_allowed(path: Path, how: int) -> bool:
    """Return whether one may read (`os.R_OK`) or write a file, without opening it."""
    return os.access(path, how, effective_ids=os.access in os.supports_effective_ids)


def _explain(path: Path, doing: str, error: BaseException) -> PawError:
    code = error_code(error)
    if code == sqlite3.SQLITE_INTERRUPT:
        raise KeyboardInterrupt from error
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DiskError(
            f"cannot {doing} {path}: another process has kept it locked for {_BUSY_S:.0f} s",
            hint="Try again when that one is done.",
        )
    if code in _DISK:
        hint = "A database also needs a folder that one may write to, for its journal."
        return DiskError(f"cannot {doing} {path}: {error}", hint=hint * (code in _NEEDS_FOLDER))
    if code == sqlite3.SQLITE_NOTADB:
        return FormatError(f"{path} is no SQLite database, or is encrypted")
    if code == sqlite3.SQLITE_CORRUPT:
        return FormatError(
            f"{path} is damaged ({error})", hint="`sqlite3 FILE .recover` saves what can be saved."
        )
    return FormatError(f"cannot {doing} {path}: {error or 'out of memory'}")
