"""Rows of a table, a view or a query: read in short steps, so that others may write meanwhile.

A table is read in pages by its rowids, each a transaction of its own. What has no rowids (a view,
a query, a table WITHOUT ROWID or a virtual one) is first copied to a temporary table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ...errors import FormatError, OptionError
from ..source import MAX_LINE_BYTES
from .database import Column, error_code, quoted, sqlite_errors
from .runs import Run

_PAGE_ROWS, _PAGE_BYTES = 2000, 4 << 20
_COPY = "paw_mlx_rows"  # the temporary table
_TICK = 1_000_000  # steps of SQLite's machine, after each of which a Ctrl-C is heard

Keyed = tuple[int, list[Any]]  # a rowid, and the values of its row


class Unread(str):
    """What could be read of a value, and in `fault` why that is not all."""

    fault: str

    @classmethod
    def of(cls, text: str, fault: str) -> Unread:
        """Make one."""
        unread = cls(text)
        unread.fault = fault
        return unread


class Rows:
    """A source of rows. `columns` are theirs; `reads` the tables they come from, in small letters.

    `keyed`: they are found again by their rowids. `counted`: how many they are is part of what
    makes them the same input. `typed`: the columns' types are what the values are of.
    """

    format, wake = "sqlite", None

    def __init__(
        self, connection: sqlite3.Connection, path: Path, name: str, what: dict[str, str]
    ) -> None:
        self.path, self.name, self.stats = path, name, (path.stat(),)
        self.columns: list[Column] = []
        self.reads: set[str] = set()
        self.keyed, self.counted, self.typed = False, True, False
        self._connection, self._what = connection, what
        self._from, self._key, self._names = "", "rowid", list[str]()
        self._first = self._last = self._at = 0  # rowids

    def use(self, columns: list[Column], table: str, key: str) -> None:
        """Read a table by its rowids, which it calls `key`."""
        self.columns, self.keyed, self._key = columns, True, key
        self._names = [column.name for column in columns]
        self._from, self.reads = f"main.{quoted(table)}", {table.lower()}

    def copy(self, columns: list[Column], select: str) -> None:
        """Copy what is selected to a temporary table, on the disk, and read that."""
        self.columns, self._names = columns, [f"c{i}" for i in range(len(columns))]
        self._from = f"temp.{_COPY}"
        run, limit = self._connection.execute, self._connection.setlimit
        for pragma in ("temp_store=FILE", "temp.journal_mode=OFF"):
            run(f"PRAGMA {pragma}").close()
        run(f"CREATE TEMP TABLE {_COPY}({', '.join(self._names)})")
        limit(sqlite3.SQLITE_LIMIT_LENGTH, 4 * MAX_LINE_BYTES)  # of all that a row holds
        self._connection.set_authorizer(self._hear)
        self._connection.set_progress_handler(lambda: 0, _TICK)
        run(f"INSERT INTO {self._from} {select}")
        self._connection.set_progress_handler(None, 0)
        self._connection.set_authorizer(None)
        limit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_LINE_BYTES)

    def identity(self) -> dict[str, Any]:
        """Return the database and what is read of it; also how many rows, if they are counted.

        Not its size, nor when it was changed: the output may be another table of it.
        """
        counted = {"num_rows": self.count()} if self.counted else {}
        return {"input": str(self.path.resolve()), **self._what, **counted}

    @property
    def num_bytes(self) -> int:
        """How much of the file was read, as if its rowids were spread evenly."""
        share = (self._at - self._first) / max(1, self._last - self._first)
        return round(self.stats[0].st_size * min(1.0, share))

    def count(self, through: int | None = None) -> int:
        """Count the rows, or those up to a rowid."""
        where = "" if through is None else f" WHERE {self._key} <= {through}"
        return int(self._ask(f"count(*) FROM {self._from}{where}"))

    def last_key(self) -> int | None:
        """Return the highest rowid, None without rows."""
        found: int | None = self._ask(f"max({self._key}) FROM {self._from}")
        return found

    def lies_in(self, path: Path) -> bool:
        """Return whether that is the database."""
        return self.path.samefile(path)

    def are_in(self, run: Run) -> bool:
        """Return whether a table that was made of rows holds all that are there now.

        OptionError if they are others.
        """
        then = run.job.get("num_rows")
        if then is not None:
            if then != (now := self.count()):
                raise OptionError(
                    f"{self.name} has changed since: {then:,} rows then, {now:,} now",
                    hint="Leave out --resume to write the output anew.",
                )
            return True
        self.check_before(run.last_rowid, run.num_rows)
        last = self.last_key()
        return last is None or (run.last_rowid is not None and last <= run.last_rowid)

    def check_before(self, key: int | None, num_rows: int) -> None:
        """Raise OptionError if the rows up to a rowid cannot be those that were read before.

        Some may have been deleted since, unless VACUUM may have given others their rowids.
        """
        if key is None:
            return
        now = self.count(key)
        if now > num_rows or (now < num_rows and not self._keys_stay()):
            raise OptionError(
                f"{self.name} has {now:,} rows up to rowid {key}, where {num_rows:,} were read: "
                "it has changed there",
                hint="Begin anew: leave out --resume, and remove the part if there is one.",
            )

    def behind(self, key: int | None, base: int | None) -> Iterator[Keyed]:
        """Give the rows behind a rowid (None: all), each with its own, in their order.

        `base` is the rowid behind which the first row of all was.
        """
        lowest: int | None = self._ask(f"min({self._key}) FROM {self._from}")
        self._first = (lowest or 0) - 1 if base is None else base
        self._last = self.last_key() or 0
        while page := self._page(key):
            for self._at, values in page:
                yield self._at, values
            key = page[-1][0]

    def _page(self, after: int | None) -> list[Keyed]:
        """Read some rows behind a rowid: a few MB of them, and one at least if there is one."""
        where = "" if after is None else f"WHERE t.{self._key} > {after} "
        rest = f"FROM {self._from} AS t {where}ORDER BY t.{self._key} LIMIT"
        names = ", ".join(f"t.{quoted(name)}" for name in self._names)
        page: list[Keyed] = []
        num_bytes = 0
        select = f"SELECT t.{self._key}, {names} {rest} {_PAGE_ROWS}"
        with sqlite_errors(self.path), closing(self._connection.cursor()) as cursor:
            try:
                for key, *values in cursor.execute(select):
                    if after is not None and key <= after:
                        raise FormatError(f"{self.path} is damaged: its rows are out of order")
                    after = key
                    page.append((key, values))
                    num_bytes += sum(len(v) for v in values if isinstance(v, str | bytes))
                    if num_bytes > _PAGE_BYTES:
                        break
            except sqlite3.DataError as error:
                if error_code(error) != sqlite3.SQLITE_TOOBIG:
                    raise
                if not page:
                    page.append(self._read_singly(f"{rest} 1"))
        return page

    def _read_singly(self, rest: str) -> Keyed:
        """Read a row value by value, as one of them is too large."""
        values = []
        for name in self._names:
            try:
                values.append(self._ask(f"t.{quoted(name)} {rest}"))
            except FormatError:
                values.append(Unread.of("", f"larger than {MAX_LINE_BYTES:,} bytes"))
        return self._ask(f"t.{self._key} {rest}"), values

    def _keys_stay(self) -> bool:
        """Return whether VACUUM leaves the rowids as they are: those of an INTEGER PRIMARY KEY."""
        with sqlite_errors(self.path):
            found = self._connection.execute(
                f"PRAGMA main.index_list({quoted(self._what['table'])})"
            ).fetchall()
        num_keys = sum(column.key > 0 for column in self.columns)
        return num_keys == 1 and not any(index[3] == "pk" for index in found)

    def _ask(self, what: str) -> Any:
        with sqlite_errors(self.path), closing(self._connection.cursor()) as cursor:
            return cursor.execute(f"SELECT {what}").fetchone()[0]

    def _hear(self, action: int, name: str | None, *_: object) -> int:
        if action == sqlite3.SQLITE_READ and name:
            self.reads.add(name.lower())
        return sqlite3.SQLITE_OK
