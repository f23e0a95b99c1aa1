"""The table `paw_mlx_runs` of a database: which of its tables `map` has written, of which job."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ...errors import OptionError
from .database import find_columns, find_table

RUNS = "paw_mlx_runs"
_COLUMNS = ("name", "job", "definition", "num_rows", "num_failed", "last_rowid", "finished")


@dataclass(frozen=True)
class Run:
    """What a table holds: all rows of a job, `num_failed` of them errors.

    `last_rowid` is the last one's of the input, None where rows have none (or there were none);
    `finished` when it was written, in UTC.
    """

    job: dict[str, Any]
    num_rows: int
    num_failed: int
    last_rowid: int | None
    finished: datetime

    @property
    def finished_ns(self) -> int:
        """When it was written, as files say when they were changed."""
        return round(self.finished.timestamp() * 1e9)


def find_run(connection: sqlite3.Connection, table: str) -> Run | None:
    """Return what is known of a table that was written here, and is as it was made then."""
    known = find_table(connection, RUNS)
    found = find_table(connection, table)
    if not (known and found):
        return None
    try:
        row = connection.execute(
            f"SELECT {', '.join(f'r.{name}' for name in _COLUMNS[1:])} "
            f"FROM main.{RUNS} AS r WHERE r.name = ? COLLATE NOCASE",
            [table],
        ).fetchone()
        if row is None or row[1] != found.definition:
            return None
        job, _, num_rows, num_failed, last_rowid, finished = row
        when = datetime.fromisoformat(finished)
        return Run(json.loads(job), num_rows, num_failed, last_rowid, when)
    except (sqlite3.OperationalError, ValueError, TypeError):  # somebody else's, or changed by hand
        return None


def check_runs(connection: sqlite3.Connection, path: Path) -> None:
    """Raise OptionError if a database has a table of that name that is none of ours."""
    columns = tuple(column.name for column in find_columns(connection, "main", RUNS))
    if columns not in ((), _COLUMNS):
        raise OptionError(
            f"{path} has a table {RUNS} that is not `map`'s, which has one of that name",
            hint="Rename it.",
        )


def names_written(connection: sqlite3.Connection) -> set[str]:
    """Return the names of the tables that were written here, in small letters."""
    if not find_table(connection, RUNS):
        return set()
    try:
        found = connection.execute(f"SELECT r.name FROM main.{RUNS} AS r")
        return {str(name).lower() for (name,) in found}
    except sqlite3.OperationalError:
        return set()


def record_run(connection: sqlite3.Connection, table: str, run: Run) -> None:
    """Note what a table holds now."""
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS main.{RUNS}(name TEXT PRIMARY KEY COLLATE NOCASE, "
        "job TEXT, definition TEXT, num_rows INTEGER, num_failed INTEGER, last_rowid INTEGER, "
        "finished TEXT)"
    )
    found = find_table(connection, table)
    assert found
    connection.execute(
        f"INSERT OR REPLACE INTO main.{RUNS}({', '.join(_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [table, json.dumps(run.job), found.definition, run.num_rows, run.num_failed,
         run.last_rowid, run.finished.isoformat()],
    )  # fmt: skip
