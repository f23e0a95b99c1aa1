"""Standard output and standard error as every command has them, whoever prints on them.

All of a text goes out, however long a non-blocking pipe takes for it. What the encoding does not
have is replaced, and said once. Standard output that takes no more is a DiskError; when nobody
reads it any more, a closed pipe or terminal, the command goes on to its exit code. Standard error
never keeps work from being done: with its terminal gone, what is said goes nowhere.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, TextIO, cast

from .errors import DiskError
from .rows.pipes import write_all

STDOUT = "standard output"
_ERRORS = "paw_mlx"  # what becomes of characters that an encoding lacks
_replaced: list[str] = []


@contextmanager
def steady() -> Iterator[None]:
    """Let the block print through streams that behave as above."""
    codecs.register_error(_ERRORS, _replace)
    before = sys.stdout, sys.stderr
    try:
        sys.stdout = _wrap(sys.stdout, is_result=True)
        sys.stderr = _wrap(sys.stderr, is_result=False)
        _replaced.clear()
        yield
    finally:
        if _replaced and sys.stdout is not before[0]:
            print(
                f"{STDOUT} is {sys.stdout.encoding}: ? stands for characters that it lacks "
                "(PYTHONIOENCODING=utf-8 sets another)",
                file=sys.stderr,
            )
        sys.stdout, sys.stderr = before


def reopen_closed() -> None:
    """Let what was closed by whoever started us be /dev/null, as cron may do."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def encodable(record: Mapping[str, Any], encoding: str | None) -> str:
    """Return a record as JSON, escaped where an encoding lacks something."""
    text = json.dumps(record, ensure_ascii=False, default=str)
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(record, default=str)
    return text


def is_read() -> bool:
    """Return whether anyone reads standard output, as far as is known."""
    return not getattr(sys.stdout.buffer, "gone", False)


class _Steady(io.RawIOBase):
    """An open file that takes all, or says why not, or is quiet."""

    def __init__(self, descriptor: int, is_result: bool) -> None:
        super().__init__()
        self._file = io.FileIO(descriptor, "wb", closefd=False)
        self._is_result, self._is_terminal = is_result, self._file.isatty()
        self.gone = False

    def write(self, data: Any) -> int:
        """Write all of it. DiskError if standard output takes no more."""
        if not self.gone:
            try:
                write_all(self._file, data)
            except OSError as error:
                nobody_reads = self._is_terminal or isinstance(error, BrokenPipeError)
                self.gone = not self._is_result or nobody_reads
                if not self.gone:
                    raise DiskError(f"cannot write {STDOUT}: {error.strerror}") from error
        return len(data)

    def fileno(self) -> int:
        return self._file.fileno()

    def isatty(self) -> bool:
        return not self.gone and self._file.isatty()

    def writable(self) -> bool:
        return True


def _wrap(stream: TextIO, is_result: bool) -> TextIO:
    """Return a stream as it should be; one that is no open file, as it is."""
    try:
        stream.flush()
        descriptor = stream.fileno()
    except (OSError, ValueError):  # io.UnsupportedOperation is both
        return stream
    return io.TextIOWrapper(
        cast(BinaryIO, _Steady(descriptor, is_result)),
        encoding=stream.encoding,
        errors=_ERRORS if is_result else "backslashreplace",
        write_through=True,
    )


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write the bytes of a path that is no text as they are; replace what cannot be encoded."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        _replaced.append("?")
        return codecs.replace_errors(error)
