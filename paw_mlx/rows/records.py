"""Records of a csv, each with its own text, and how such a file is written.

The csv module decides what a record is; its text is kept beside it, so that what is copied keeps
its quotes. A field may hold line ends, so a record may take several lines.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from ..errors import FormatError
from .source import Giant, Lines, decode_line

MAX_FIELD = 1 << 20  # characters: a stray quote takes no more rows with it than these
UNLIMITED = sys.maxsize


@dataclass(frozen=True)
class Dialect:
    """How a csv is written."""

    delimiter: str = ","
    newline: str = "\n"
    mark: bytes = b""
    quote_all: bool = False

    @classmethod
    def of(cls, head: bytes, suffix: str, marked: bool) -> Dialect:
        """Tell it by the first line: the delimiter is the most frequent outside quotes."""
        text = head.decode(errors="replace")
        bare = re.sub(r'"[^"]*"?', "", text.rstrip("\r\n"))
        delimiter = "\t" if suffix == ".tsv" else max(",;\t|", key=bare.count)
        return cls(
            delimiter,
            "\r\n" if head.endswith(b"\r\n") else "\n",
            "\ufeff".encode() if marked else b"",
            '"' in text and not bare.replace(delimiter, ""),
        )

    def join(self, values: Iterable[str]) -> str:
        """Return a record, without a line end."""
        text = io.StringIO()
        csv.writer(
            text,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_ALL if self.quote_all else csv.QUOTE_MINIMAL,
        ).writerow(values)
        return text.getvalue().removesuffix("\r\n")


class Record(NamedTuple):
    """A record of a csv and its lines; an error for one that is malformed."""

    values: list[str] | FormatError
    raw: bytes

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


def read_records(
    lines: Lines, delimiter: str, max_field: int = MAX_FIELD
) -> Iterator[Record | None]:
    """Read the records of a csv; a blank line has no values."""
    for line in lines:
        if line is None:
            yield None
            continue
        taken: list[bytes] = []
        found = csv.reader(_take_lines(line, lines, taken), delimiter=delimiter, strict=True)
        values: list[str] | FormatError
        csv.field_size_limit(max_field)
        try:
            values = next(found)
        except csv.Error as error:
            is_return = str(error).startswith("new-line character")
            reason = r"a \r neither in quotes nor at the end of a line" if is_return else error
            values = FormatError(f"no valid csv ({reason})")
        yield Record(values, b"".join(taken))


def _take_lines(line: bytes, lines: Lines, taken: list[bytes]) -> Iterator[str]:
    """Decode the lines of one record, as far as they are asked for; add them to `taken`."""
    for more in chain([line], lines):
        if more is None:
            continue
        text = more.decode("utf-8" if taken else "utf-8-sig", "surrogateescape")
        taken.append(more)
        if isinstance(more, Giant):
            raise csv.Error(str(more))
        yield text
