"""From what a user names to a source of rows: files, folders, patterns, or standard input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ..errors import OptionError
from .inputs import find_inputs
from .packing import import_arrow
from .several import Several
from .source import Source, open_input
from .suffixes import format_of
from .target import Target
from .urls import is_url, parse_url


@contextmanager
def open_source(
    places: Sequence[str | Path],
    *,
    format: str | None = None,
    query: str | None = None,
    output: Target | None = None,
) -> Iterator[Source]:
    """Open what holds rows: files, folders and patterns, one file after the other.

    Or a table of a SQLite database, `sqlite:///FILE?table=T`, or what a `query` selects from one.

    Of a folder, all files below it are read whose names tell a format of rows, and `output` shall
    not lie in it. Nothing is standard input. NotFound for what is not there or cannot be read,
    OptionError for files of several formats, and for one that is meant twice.
    """
    if query is not None or any(map(is_url, places)):
        with _open_sqlite(places, format, query) as rows:
            yield rows
        return
    if not places:
        with open_input(None) as source:
            yield source
        return
    paths = find_inputs(places, format=format, output=output)
    if len(paths) > 1:
        yield Several(paths, partial(open_one, format=format), format)
        return
    with open_one(paths[0], format=format) as source:
        yield source


@contextmanager
def open_one(path: Path, *, format: str | None = None) -> Iterator[Source]:
    """Open one file, of the format that is named or that its name tells (None: lines)."""
    told = format or format_of(path)
    if told == "parquet":
        import_arrow(str(path))
        from .parquet.source import open_parquet

        with open_parquet(path) as file:
            yield file
        return
    if told == "sqlite":
        from .sqlite.opening import open_rows  # some Pythons lack sqlite3

        with open_rows(path) as rows:
            yield rows
        return
    with open_input(path) as source:
        yield source


@contextmanager
def _open_sqlite(
    places: Sequence[str | Path], format: str | None, query: str | None
) -> Iterator[Source]:
    """Open a table, or what a query selects; OptionError for several places, or no database."""
    if len(places) != 1:
        raise OptionError(
            f"a table or a query of SQLite comes alone, and {len(places)} places are named"
        )
    place = places[0]
    path, table = parse_url(str(place)) if is_url(place) else (Path(place), None)
    if (format or ("sqlite" if is_url(place) else format_of(path))) != "sqlite":
        raise OptionError(f"{place} is to be read as {format or 'text'}, and not as SQLite")
    if table and query is not None:
        raise OptionError("a query names its tables itself", hint="Leave out ?table=.")
    from .sqlite.opening import open_rows

    with open_rows(path, table, query) as rows:
        yield rows
