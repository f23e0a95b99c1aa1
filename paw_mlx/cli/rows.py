"""What the commands on rows share: where these come from, and where they go."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import Any

import click

from ..errors import FieldError, OptionError
from ..rows.checks import is_among
from ..rows.formats import FORMATS, is_streamed
from ..rows.opening import open_source
from ..rows.sink import Stream
from ..rows.source import Input, Source, open_input
from ..rows.suffixes import SUFFIXES, suffix_of
from ..rows.target import Table, Target
from ..rows.urls import DEFAULT_TABLE, is_url, parse_url
from ..streams import STDOUT, is_read
from ..words import harmless
from .options import add_options


class _Target(click.Path):
    """A file's path, or the table that `sqlite:///FILE?table=T` and a database's suffix mean."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what is meant."""
        if is_url(value):
            try:
                path, table = parse_url(value)
            except OptionError as error:
                self.fail(f"{error}. {' '.join(error.hints)}", param, ctx)
            return Table(path, table or DEFAULT_TABLE)
        path = Path(str(super().convert(value, param, ctx)))
        return Table(path, DEFAULT_TABLE) if SUFFIXES.get(suffix_of(path)) == "sqlite" else path


TARGET = _Target()


def input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how rows are read: --format, --field, --query."""
    return add_options(
        command,
        click.option(
            "--format",
            "format_",
            type=click.Choice([*FORMATS]),
            help="Of the rows that are read.  [default: by the suffix, else lines]",
        ),
        click.option(
            "--field",
            metavar="NAME",
            help="Which holds the input.  [default: input, text, the only one]",
        ),
        click.option(
            "--query", metavar="SQL", help="Read what this SELECT gives of FILE, a SQLite database."
        ),
    )


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how rows are read and where they are written: `input_options`, and --output."""
    out = click.option(
        "-o",
        "--output",
        metavar="OUT",
        type=TARGET,
        help="Write rows here, in the format of its suffix if it has one.",
    )
    return input_options(out(command))


def added_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what rows gain: --output-field, --probability-field, --file-field, --unordered.

    The command gets them as `added`, keywords of `RowFiles.open`.
    """

    @wraps(command)
    def run(
        output_field: str | None,
        probability_field: str | None,
        file_field: str | None,
        unordered: bool,
        **others: Any,
    ) -> Any:
        added = {
            "output_field": output_field,
            "probability_field": probability_field,
            "file_field": file_field,
            "unordered": unordered,
        }
        return command(added=added, **others)

    return add_options(
        run,
        click.option(
            "--output-field", metavar="NAME", help="Which gets the output.  [default: output]"
        ),
        click.option(
            "--probability-field", metavar="NAME", help="Gets the probability of the label."
        ),
        click.option("--file-field", metavar="NAME", help="Gets the file that the row stands in."),
        click.option("--unordered", is_flag=True, help="Rows as they are done, with their number."),
    )


@contextmanager
def open_files(
    files: Sequence[str],
    format_: str | None = None,
    output: Target | None = None,
    query: str | None = None,
) -> Iterator[Source]:
    """Open FILES, or standard input for `-` and where they are left out of a pipe.

    A field of them that is named wrongly is a wrong call. OptionError for what is written, too.
    """
    if not files and sys.stdin.isatty():
        raise click.UsageError("give FILE, or pipe it in")
    if "-" in files and len(files) > 1:
        raise click.UsageError("- is standard input, and comes alone")
    try:
        places = [] if files == ("-",) else files
        with open_source(places, format=format_, query=query, output=output) as source:
            _check_stdout(source)
            yield source
    except FieldError as error:
        raise click.UsageError(str(error)) from error


@contextmanager
def open_lines(file: str | None) -> Iterator[Input]:
    """Open FILE, or standard input for `-` and where it is left out of a pipe, as lines.

    OptionError for a table, which has none.
    """
    if file is None and sys.stdin.isatty():
        raise click.UsageError("give FILE, or pipe it in")
    with open_input(None if file == "-" else file) as source:
        if not is_streamed(SUFFIXES.get(source.suffix, "lines")):
            raise OptionError(f"{file} is a table, and has no lines", hint="`map` reads it.")
        _check_stdout(source)
        yield source


def _check_stdout(source: Source) -> None:
    """Raise OptionError if standard output goes to a file that is read: there would be no end."""
    with suppress(OSError):  # closed
        if is_among(os.fstat(1), source):
            raise OptionError(
                "standard output goes to a file that is read, too", hint="Write to another file."
            )


class Stdout(Stream):
    """Standard output. When nobody reads it any more, click's Exit ends the command.

    On a terminal, what it would obey is escaped; in rows of JSON that changes no value.
    """

    def __init__(self, head: bytes = b"") -> None:
        self._is_terminal = sys.stdout.isatty()
        super().__init__(sys.stdout.buffer, STDOUT, self._shown(head))

    def write(self, number: int, data: bytes, failed: bool) -> None:
        """Print a row."""
        super().write(number, self._shown(data), failed)
        if not is_read():
            raise click.exceptions.Exit(0)

    def _shown(self, data: bytes) -> bytes:
        if not self._is_terminal:
            return data
        return harmless(data.decode(errors="surrogateescape")).encode()
