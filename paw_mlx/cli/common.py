"""What several commands share: their input, their tables, their JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ..errors import DiskError, NotFound, OptionError
from ..rows.pipes import decode, read_all
from ..streams import encodable
from ..words import OBEYED, harmless
from .voice import say

_NOT_IN_A_LINE = re.compile(rf"{OBEYED.pattern}|[\t\n\r]")
_HEARD = f"{__name__}.heard"  # in click's context: the warnings


def read_input(text: str | None, file: Path | None) -> str:
    """Return the input: an argument, a file, or standard input (`-`, or a pipe).

    A trailing newline of a file or pipe is not part of it. Standard input that was read before
    (`run_words`) is not read again.
    """
    if file is not None:
        if text is not None:
            raise click.UsageError("give INPUT or --file, not both")
        try:
            return decode(file.read_bytes(), str(file))
        except OSError as error:
            raise NotFound(f"cannot read {file}: {error.strerror}") from error
    if text is not None and text != "-":
        return text
    data = click.get_current_context().find_root().obj
    if data is None and text is None and sys.stdin.isatty():
        raise click.UsageError("give INPUT, or pipe it in")
    data = _read_stdin() if data is None else data
    if not data:
        say("standard input is empty; running on an empty input")
    return decode(data, "standard input")


def print_json(record: Mapping[str, Any]) -> None:
    """Print a record, and the warnings heard so far; escaped where the encoding lacks something."""
    print_data(f"{encodable(_with_warnings(record), sys.stdout.encoding)}\n")


def print_data(text: str) -> None:
    """Print what a program may read as it is, but on a terminal as `print_text` does."""
    text = harmless(text) if sys.stdout.isatty() else text
    click.echo(text, nl=False, color=True)  # click would leave out what looks like a color


def print_text(text: str) -> None:
    """Print lines for people to read, with what a terminal would obey escaped."""
    click.echo(harmless(text))


def to_json(record: Mapping[str, Any]) -> str:
    """Return a record as JSON, with the warnings heard so far, if there are any."""
    return json.dumps(_with_warnings(record), ensure_ascii=False, default=str)


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Let an error of printing in the block say that the work is done: a file lies at `path`."""
    try:
        yield
    except DiskError as error:
        error.add_note(f"{path} is written all the same.")
        raise


def hear(context: click.Context, warning: Warning | str) -> None:
    """Keep a warning for the JSON that a command prints."""
    code = type(warning).__name__ if isinstance(warning, Warning) else "Warning"
    context.meta.setdefault(_HEARD, []).append({"code": code, "message": str(warning)})


def _with_warnings(record: Mapping[str, Any]) -> dict[str, Any]:
    found = click.get_current_context().meta.get(_HEARD)
    return {**record, "warnings": found} if found else dict(record)


@contextmanager
def needing(extra: str, doing: str, *packages: str) -> Iterator[None]:
    """Raise OptionError where the block imports one of an extra's packages, and it is not there."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in packages:
            raise
        raise OptionError(
            f"{doing} needs the package {package}",
            hint=f"`pip install 'paw-mlx[{extra}]'` brings it.",
        ) from error


def table(rows: list[list[str]]) -> str:
    """Return rows as aligned columns, printable; all but the first are aligned right."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def quoted(value: object) -> str:
    """Return a text or a record as JSON that people read, on one line."""
    return harmless(json.dumps(value, ensure_ascii=False))


def printable(text: str) -> str:
    """Return one line of text, with ends of lines and what a terminal would obey escaped."""
    return _NOT_IN_A_LINE.sub(lambda found: repr(found[0])[1:-1], text)


def _read_stdin() -> bytes:
    try:
        descriptor = sys.stdin.fileno()
    except ValueError:  # io.UnsupportedOperation: no open file stands behind it
        return sys.stdin.buffer.read()
    try:
        return read_all(descriptor)
    except OSError as error:
        raise NotFound(f"cannot read standard input: {error.strerror}") from error
