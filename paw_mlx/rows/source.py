"""Where rows come from: a file, several, or a pipe; of text, lines of bytes.

Never more than a little of it is in memory. A byte order mark begins a line only where files were
joined, so it is no part of any line.

A pipe may be silent for hours while results wait to be delivered, so a thread reads it, and
None among its lines means "nothing at the moment".
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ..errors import FormatError, NotFound, PawError
from .magic import check_text
from .packing import Unpacked, find_packing
from .pipes import read_some
from .suffixes import format_of, suffix_of

MAX_LINE_BYTES = 16 << 20
_HEAD_BYTES = 1 << 10  # of a longer line that are kept
_MAX_AHEAD_BYTES, _CHUNK_BYTES = 1 << 20, 1 << 16
_BOM = b"\xef\xbb\xbf"

Lines = Iterator[bytes | None]


class Source(Protocol):
    """Where rows come from.

    `format` is what its name tells, if it does. `stats` are those of its regular files when it was
    opened: none of a pipe, which has `wake` instead, to make its rows None. `num_bytes` of them
    were read.
    """

    @property
    def name(self) -> str: ...

    @property
    def format(self) -> str | None: ...

    @property
    def stats(self) -> Sequence[os.stat_result]: ...

    @property
    def wake(self) -> Callable[[], None] | None: ...

    @property
    def num_bytes(self) -> int: ...

    def identity(self) -> dict[str, Any]:
        """Return what makes it the same input: `input`, and of files what tells their content."""
        ...


class Input:
    """A source of lines, from a file (`suffix` is its own, whatever it is packed in) or a pipe."""

    def __init__(self, name: str, source: BinaryIO | Pipe, path: Path | None = None) -> None:
        self.name, self.suffix = name, suffix_of(path)
        self.marked, self._path, self._num_bytes = False, path, 0
        self._unpacked: Unpacked | None = None
        self.stats: tuple[os.stat_result, ...] = ()
        self.wake: Callable[[], None] | None = None
        if isinstance(source, Pipe):
            self.wake, self.lines = source.wake, self._skip_marks(source)
            return
        self._descriptor, self._num_bytes = source.fileno(), source.tell()
        self.stats = (os.fstat(self._descriptor),)
        read: Callable[[int], bytes] = source.read
        if packing := find_packing(self._descriptor, self._num_bytes, name, path):
            self._unpacked = Unpacked(source, packing, name)
            read = self._unpacked.read
        chunks = _split(lambda: read(_CHUNK_BYTES), name)
        self.lines = self._skip_marks(chain.from_iterable(chunks))

    @property
    def format(self) -> str | None:
        """The format that its name tells; OptionError for one that nobody reads here."""
        return format_of(self._path)

    @property
    def num_bytes(self) -> int:
        """How many bytes were read, as they lie in the file."""
        if not self._unpacked:
            return self._num_bytes
        return self._unpacked.num_packed * self._num_bytes // max(self._unpacked.num_bytes, 1)

    def identity(self) -> dict[str, Any]:
        """Return its name; of a regular file also its size, and a hash of its first MiB."""
        if not self.stats:
            return {"input": "a pipe"}
        return {
            "input": str(self._path.resolve()) if self._path else self.name,
            "input_bytes": self.stats[0].st_size,
            "input_head": hashlib.sha256(os.pread(self._descriptor, 1 << 20, 0)).hexdigest(),
        }

    def _skip_marks(self, lines: Lines) -> Lines:
        """Give the lines without their marks; OptionError for what is no text."""
        first = True
        for line in lines:
            if line is None:
                yield None
                continue
            self._num_bytes += line.num_bytes if isinstance(line, Giant) else len(line)
            if first:
                check_text(line, self.name)
            if line.startswith(_BOM) and not isinstance(line, Giant):
                self.marked, line = self.marked or first, line.removeprefix(_BOM)
            first = False
            yield line


class Giant(bytes):
    """The head of a line of `num_bytes`, which is too long to hold."""

    num_bytes: int

    @classmethod
    def of(cls, line: bytes, lost_bytes: int) -> Giant:
        """Keep the head of a line that has lost some bytes already."""
        giant = cls(line[:_HEAD_BYTES])
        giant.num_bytes = len(line) + lost_bytes
        return giant

    def __str__(self) -> str:
        return f"a line of {self.num_bytes:,} bytes, of which {len(self):,} are kept"


@contextmanager
def open_input(file: str | Path | None) -> Iterator[Input]:
    """Open a file, or standard input for None; NotFound if it cannot be read."""
    path = None if file is None else Path(file)
    name = "standard input" if file is None else str(file)
    try:
        handle = path.open("rb") if path else os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    except OSError as error:
        raise NotFound(f"cannot read {name}: {error.strerror}") from error
    with handle:
        if stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
            yield Input(name, handle, path)
        else:  # a pipe's descriptor stays open: a thread reads it, to the end of the process
            yield Input(name, Pipe(os.dup(handle.fileno()), name))


def decode_line(line: bytes) -> tuple[str, FormatError | None]:
    """Return a line as text, without its end; what is not UTF-8 is replaced, and said."""
    if isinstance(line, Giant):
        return line.decode(errors="replace"), FormatError(str(line))
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
        """End a wait for the next line: it is None."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def _read(self) -> None:
        # os.read: a buffered reader that waits in a thread would abort the process at its end.
        try:
            for lines in _split(lambda: read_some(self._descriptor, _CHUNK_BYTES), self._name):
                self._put(lines)
        except PawError as error:
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


def _split(read: Callable[[], bytes], name: str) -> Iterator[list[bytes]]:
    """Give the lines, with their ends, that each read completes; giants without their rest."""
    rest, lost_bytes = b"", 0
    try:
        while chunk := read():
            *whole, rest = (rest + chunk).split(b"\n")
            lines = [line + b"\n" for line in whole]
            if lines and lost_bytes:
                lines[0], lost_bytes = Giant.of(lines[0], lost_bytes), 0
            if len(rest) > (_HEAD_BYTES if lost_bytes else MAX_LINE_BYTES):
                lost_bytes += len(rest) - _HEAD_BYTES
                rest = rest[:_HEAD_BYTES]
            yield lines
    except OSError as error:
        raise NotFound(f"cannot read {name}: {error.strerror}") from error
    if rest:
        yield [Giant.of(rest, lost_bytes) if lost_bytes else rest]
