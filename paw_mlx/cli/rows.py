"""What the commands on rows share: where these come from, and where they go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from ..errors import FieldError
from ..rows.formats import FORMATS
from ..rows.sink import Stream
from ..rows.source import Input, open_input
from ..streams import STDOUT, is_read
from .options import PATH, add_options


def input_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how rows are read: --format, --field."""
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
    )


def file_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add how rows are read and where they are written: `input_options`, and --output."""
    out = click.option(
        "-o",
        "--output",
        metavar="OUT",
        type=PATH,
        help="Write rows here, in the format of its suffix if it has one.",
    )
    return input_options(out(command))


@contextmanager
def open_file(file: str | None) -> Iterator[Input]:
    """Open FILE, or standard input for `-` and where FILE is left out of a pipe.

    A field of it that is named wrongly is a wrong call.
    """
    if file is None and sys.stdin.isatty():
        raise click.UsageError("give FILE, or pipe it in")
    try:
        with open_input(None if file == "-" else file) as source:
            yield source
    except FieldError as error:
        raise click.UsageError(str(error)) from error


class Stdout(Stream):
    """Standard output. When nobody reads it any more, click's Exit ends the command."""

    def __init__(self, head: bytes = b"") -> None:
        super().__init__(sys.stdout.buffer, STDOUT, head)

    def write(self, number: int, data: bytes, failed: bool) -> None:
        """Print a row."""
        super().write(number, data, failed)
        if not is_read():
            raise click.exceptions.Exit(0)
