"""Records of a csv, each with its own text, and how such a file is written.

The csv module decides what a record is; its text is kept beside it, so that what is copied keeps
its quotes. A field may hold line ends, so a record may take several lines.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import NamedTuple

from ..errors import FormatError
from .source import Giant, Lines, decode_line

MAX_FIELD = 1 << 20  # characters: no more are searched for the end of a quote
UNLIMITED = sys.maxsize
_SEP = re.compile(rb'(?:\xef\xbb\xbf)?"?sep=([,;|\t])"?\r?\n?', re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """How a csv is written.

    `blank` follows each delimiter and is no part of a field; `hint` is Excel's first line, which
    names the delimiter (`sep=;`).
    """

    delimiter: str = ","
    newline: str = "\n"
    mark: bytes = b""
    quote_all: bool = False
    blank: str = ""
    hint: bytes = b""

    @classmethod
    def of(cls, head: bytes, suffix: str, marked: bool, hint: bytes = b"") -> Dialect:
        """Tell it by the header: the delimiter is the most frequent outside quotes."""
        text = head.decode(errors="replace").rstrip("\r\n")
        bare = re.sub(r'"[^"]*"?', "", text)
        named = _SEP.fullmatch(hint)
        delimiter = "\t" if suffix == ".tsv" else max(",;\t|", key=bare.count)
        delimiter = named[1].decode() if named else delimiter
        others = bare.split(delimiter)[1:]
        return cls(
            delimiter,
            "\r\n" if head.endswith(b"\r\n") else "\n",
            "\ufeff".encode() if marked else b"",
            '"' in text and not bare.replace(delimiter, "").strip(),
            " " if others and all(name.startswith(" ") for name in others) else "",
            hint,
        )

    def with_delimiter(self, delimiter: str) -> Dialect:
        """Return the same with another delimiter."""
        return replace(self, delimiter=delimiter, blank="", hint=b"")

    def join(self, values: Iterable[str]) -> str:
        """Return a record, without a line end."""
        if self.blank:
            plain = replace(self, blank="")
            return self.between.join(plain.join([value]) if value else "" for value in values)
        text = io.StringIO()
        csv.writer(
            text,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_ALL if self.quote_all else csv.QUOTE_MINIMAL,
        ).writerow(values)
        return text.getvalue().removesuffix("\r\n")

    @property
    def between(self) -> str:
        """What parts two fields."""
        return self.delimiter + self.blank


def split_hint(lines: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Part Excel's line that names the delimiter, if the lines begin with it, from the others."""
    first = next(lines, None)
    if first is None:
        return b"", lines
    return (first, lines) if _SEP.fullmatch(first) else (b"", chain([first], lines))


class Record(NamedTuple):
    """A record of a csv and its lines; an error for one that is malformed.

    The quotes of a `literal` one are characters like any other.
    """

    values: list[str] | FormatError
    lines: tuple[bytes, ...]
    literal: bool = False

    @property
    def raw(self) -> bytes:
        """Its lines as they stand."""
        return self.lines[0] if len(self.lines) == 1 else b"".join(self.lines)

    @property
    def text(self) -> str:
        """Its lines, without the last one's end."""
        return decode_line(self.raw)[0].rstrip("\r\n")

    @property
    def error(self) -> FormatError | None:
        """What is wrong with it."""
        return decode_line(self.raw)[1] or (
            self.values if isinstance(self.values, FormatError) else None
        )


class _Lines:
    """Lines that can be given back, to be read again."""

    def __init__(self, lines: Lines) -> None:
        self._lines, self._again = lines, deque[bytes]()

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> bytes | None:
        return self._again.popleft() if self._again else next(self._lines)

    def give_back(self, lines: list[bytes]) -> None:
        self._again.extendleft(reversed(lines))


def read_records(lines: Lines, dialect: Dialect, max_field: int = MAX_FIELD) -> Iterator[Record]:
    """Read the records of a csv; a malformed one has all the lines that belong to it."""
    for record in _read(_Lines(lines), dialect, max_field):
        if record is not None:
            yield record


def mend_records(lines: Lines, dialect: Dialect) -> Iterator[Record | None]:
    """Read the records of a csv that people wrote; a blank line has no values.

    A quote that nobody closes spoils its own line alone: those behind it are read again. Between
    tabs, where most programs write no quotes, it is a character like any other then.
    """
    source = _Lines(lines)
    for record in _read(source, dialect, MAX_FIELD):
        if record is None or not isinstance(record.values, FormatError):
            yield record
            continue
        line, *others = record.lines
        source.give_back(others)
        yield _mend(line, record.values, bool(others), dialect)


def _mend(line: bytes, fault: FormatError, is_open: bool, dialect: Dialect) -> Record:
    """Return the record of one line, of which csv makes none."""
    text, error = decode_line(line)
    if dialect.delimiter == "\t" and '"' in text and not error and "\r" not in text:
        return Record(text.split("\t"), (line,), literal=True)
    if is_open:
        fault = FormatError("no valid csv (a quote in it has no end)")
    return Record(fault, (line,))


def _read(lines: _Lines, dialect: Dialect, max_field: int) -> Iterator[Record | None]:
    for line in lines:
        if line is None:
            yield None
            continue
        taken: list[bytes] = []
        found = csv.reader(
            _take_lines(line, lines, taken),
            delimiter=dialect.delimiter,
            skipinitialspace=bool(dialect.blank),
            strict=True,
        )
        values: list[str] | FormatError
        csv.field_size_limit(max_field)
        try:
            values = next(found)
        except csv.Error as error:
            is_return = str(error).startswith("new-line character")
            reason = r"a \r neither in quotes nor at the end of a line" if is_return else error
            values = FormatError(f"no valid csv ({reason})")
        yield Record(values, tuple(taken))


def _take_lines(line: bytes, lines: _Lines, taken: list[bytes]) -> Iterator[str]:
    """Decode the lines of one record, as far as they are asked for; add them to `taken`."""
    for more in chain([line], lines):
        if more is None:
            continue
        text = more.decode("utf-8" if taken else "utf-8-sig", "surrogateescape")
        taken.append(more)
        if isinstance(more, Giant):
            raise csv.Error(str(more))
        yield text
