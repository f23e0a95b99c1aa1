"""SQLite databases that tests of `map` read and write, and a program that shouts on their rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from test_run import PROGRAM, Shouting

from paw_mlx.rows.opening import open_source
from paw_mlx.rows.part import Part
from paw_mlx.rows.run import RowFiles, identity, is_complete, map_rows, open_part
from paw_mlx.rows.target import Table, Target
from paw_mlx.runner import Options

MAIL = [(i, f"text {i}" if i % 4 else "wrong") for i in range(1, 11)]


def write(path: Path, *statements: str, rows: Sequence[Sequence[Any]] = ()) -> Path:
    """Run statements on a database, the last one once for each of the rows, if there are any."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements[:-1] if rows else statements:
            connection.execute(statement)
        if rows:
            connection.executemany(statements[-1], rows)
    return path


def mail(
    path: Path, rows: Sequence[Sequence[Any]] = MAIL, key: str = "INTEGER PRIMARY KEY"
) -> Path:
    """A database with a table `mail` of numbered texts."""
    write(path, f"CREATE TABLE mail (id {key}, body TEXT)")
    return write(path, "INSERT INTO mail VALUES (?, ?)", rows=rows) if rows else path


def read(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def types(path: Path, table: str) -> list[tuple[str, str]]:
    """Names and declared types of a table's columns."""
    return read(path, f"SELECT name, type FROM pragma_table_info('{table}')")


def is_sound(path: Path) -> bool:
    return read(path, "PRAGMA integrity_check") == [("ok",)]


def shout(
    place: str | Path | Iterable[Path],
    output: Target,
    *,
    resume: bool = False,
    most: int | None = None,
    query: str | None = None,
    **how: Any,
) -> list[str]:
    """Map rows, or only the first ones, as if a kill came then; return the inputs that were run."""
    runner = Shouting()
    places = [place] if isinstance(place, str | Path) else [*place]
    with open_source(places, query=query, output=output) as source:
        files = RowFiles.open(source, output, **how)
        if resume and is_complete(output, source):
            return []
        job = identity(runner, PROGRAM, files, Options())
        with (
            closing(open_part(output, job, files, resume)) as sink,
            closing(map_rows(runner, PROGRAM, files, sink, Options())) as found,
        ):
            assert isinstance(sink, Part)
            for number, _ in enumerate(found, 1):
                if number == most:
                    break
    return runner.texts


def out_of(path: Path) -> Table:
    return Table(path, "out")
