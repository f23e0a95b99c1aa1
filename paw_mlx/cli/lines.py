"""Lines of bytes from a file or a pipe, never more than a little of it in memory.

A pipe may be silent for hours while results wait to be delivered, so a thread reads it, and
None among its lines means "nothing at the moment".
"""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import click

from ..errors import FormatError, NotFound, OptionError, PawError

MAX_LINE_BYTES = 16 << 20
_MAX_AHEAD_BYTES = 1 << 20
_BOM, _UTF16 = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")

Lines = Iterator[bytes | None]


class Input:
    """Where rows come from. `path` is a regular file's; `wake` makes a pipe's `lines` give None."""

    def __init__(self, name: str, source: BinaryIO | Pipe, path: Path | None = None) -> None:
        self.name, self.path, self._source = name, path, source
        self.lines: Lines = source if isinstance(source, Pipe) else read_lines(source, name)
        self.wake = source.wake if isinstance(source, Pipe) else None

    def __enter__(self) -> Input:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not isinstance(self._source, Pipe):
            self._source.close()


def open_input(file: str | None) -> Input:
    """Open FILE, or standard input for `-` and where FILE is left out of a pipe."""
    if file is None and sys.stdin.isatty():
        raise click.UsageError("give FILE, or pipe it in")
    if file in (None, "-"):
        return Input("standard input", Pipe(sys.stdin.fileno(), "standard input"))
    assert file is not None
    path = Path(file)
    try:
        handle = path.open("rb")
    except OSError as error:
        raise NotFound(f"cannot read {file}: {error.strerror}") from error
    if stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
        return Input(file, handle, path)
    with handle:
        return Input(file, Pipe(os.dup(handle.fileno()), file))


def read_lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Lines with their ends; FormatError for a giant."""
    while line := file.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            raise _too_long(name)
        yield line


def unmarked(line: bytes, name: str) -> bytes:
    """The first line without a byte order mark; OptionError for UTF-16."""
    if line.startswith(_UTF16):
        raise OptionError(
            f"{name} is UTF-16", hint="Convert it, for example with `iconv -f UTF-16 -t UTF-8`."
        )
    return line.removeprefix(_BOM)


def decoded(line: bytes) -> tuple[str, FormatError | None]:
    """A line as text, without its end; what is not UTF-8 is replaced, and said."""
    line = line.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return line.decode(), None
    except UnicodeDecodeError as error:
        fault = FormatError(f"not UTF-8: byte {line[error.start]:#04x} at {error.start}")
        return line.decode(errors="replace"), fault


class Pipe:
    """Lines that a thread reads from a descriptor; `wake` ends a wait for the next with None."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor, self._name = descriptor, name
        self._lines: deque[bytes] = deque()
        self._num_bytes = 0
        self._woken = self._ended = False
        self._error: PawError | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._read, name="paw-mlx pipe", daemon=True).start()

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._woken or self._ended)
            if self._lines:
                line = self._lines.popleft()
                self._num_bytes -= len(line)
                self._changed.notify_all()
                return line
            if self._ended:
                if self._error:
                    raise self._error
                raise StopIteration
            self._woken = False
            return None

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def _read(self) -> None:
        # os.read: a buffered reader that waits in a thread would abort the process at its end.
        rest = b""
        try:
            while chunk := os.read(self._descriptor, 1 << 16):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_LINE_BYTES:
                    raise _too_long(self._name)
                self._put([line + b"\n" for line in lines])
            self._put([rest] if rest else [])
        except OSError as error:
            self._error = NotFound(f"cannot read {self._name}: {error.strerror}")
        except FormatError as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _put(self, lines: list[bytes]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._num_bytes < _MAX_AHEAD_BYTES)
            self._lines.extend(lines)
            self._num_bytes += sum(map(len, lines))
            self._changed.notify_all()


def _too_long(name: str) -> FormatError:
    return FormatError(f"{name} has a line of more than {MAX_LINE_BYTES:,} bytes: no text file")
