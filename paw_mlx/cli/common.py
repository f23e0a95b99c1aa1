"""What several commands share: their input, their voice on stderr, their tables."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

import click

from ..errors import NotFound, OptionError


def read_input(text: str | None, file: Path | None) -> str:
    """Return the input: an argument, a file, or standard input (`-`, or a pipe).

    A trailing newline of a file or pipe is not part of it.
    """
    if file is not None:
        if text is not None:
            raise click.UsageError("give INPUT or --file, not both")
        try:
            return _decode(file.read_bytes(), str(file))
        except OSError as error:
            raise NotFound(f"cannot read {file}: {error.strerror}") from error
    if text is not None and text != "-":
        return text
    if text is None and sys.stdin.isatty():
        raise click.UsageError("give INPUT, or pipe it in")
    data = sys.stdin.buffer.read()
    if not data:
        say("standard input is empty; running on an empty input")
    return _decode(data, "standard input")


def say(message: str, *, nl: bool = True) -> None:
    """Print a line of status, on stderr, whether or not anyone reads it."""
    try:
        click.echo(message, nl=nl, err=True)
    except OSError:
        hush(sys.stderr)


def hush(stream: TextIO) -> None:
    """Let what is still to be printed go nowhere: nobody takes it any more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def status(message: str) -> None:
    """Print a line of status that only someone watching a terminal wants."""
    if sys.stderr.isatty():
        say(message)


def table(rows: list[list[str]]) -> str:
    """Return rows as aligned columns; all but the first are aligned right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def printable(text: str) -> str:
    """Return one line of text with everything that is no printable character escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _decode(data: bytes, where: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OptionError(
            f"{where} is not UTF-8: byte {data[error.start]:#04x} at {error.start}",
            hint="Convert it, for example with `iconv -t UTF-8`.",
        ) from error
    return text.removesuffix("\n").removesuffix("\r")
