"""Records of a csv, each with its own text, and how such a file is written.

The csv module decides what a record is; its text is kept beside it, so that what is copied keeps
its quotes. A field may hold line ends, so a record may take several lines.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import FormatError
from .lines import Lines, decoded

_MAX_FIELD = 1 << 20  # characters: a stray quote takes no more rows with it than these


@dataclass(frozen=True)
class Dialect:
    """How a csv is written."""

    delimiter: str = ","
    newline: str = "\n"
    mark: bytes = b""
    quote_all: bool = False

    @classmethod
    def of(cls, head: bytes, suffix: str) -> Dialect:
        """By the first line: the delimiter that is most frequent outside quotes."""
        text = head.decode(errors="replace")
        bare = re.sub(r'"[^"]*"?', "", text.removeprefix("\ufeff").rstrip("\r\n"))
        delimiter = "\t" if suffix == ".tsv" else max(",;\t|", key=bare.count)
        return cls(
            delimiter,
            "\r\n" if head.endswith(b"\r\n") else "\n",
            "\ufeff".encode() if text.startswith("\ufeff") else b"",
            '"' in text and not bare.replace(delimiter, ""),
        )

    def joined(self, values: Iterable[str]) -> str:
        """A record, without a line end."""
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
        return decoded(self.raw)[0].rstrip("\r\n")

    @property
    def error(self) -> FormatError | None:
        """What is wrong with it."""
        return decoded(self.raw)[1] or (
            self.values if isinstance(self.values, FormatError) else None
        )


def records(lines: Lines, delimiter: str) -> Iterator[Record | None]:
    """The records of a csv; a blank line has no values."""
    csv.field_size_limit(_MAX_FIELD)
    for line in lines:
        if line is None:
            yield None
            continue
        taken: list[bytes] = []
        found = csv.reader(_taking(line, lines, taken), delimiter=delimiter, strict=True)
        values: list[str] | FormatError
        try:
            values = next(found)
        except csv.Error as error:
            values = FormatError(f"no valid csv ({error})")
        yield Record(values, b"".join(taken))


def _taking(line: bytes, lines: Lines, taken: list[bytes]) -> Iterator[str]:
    """The lines of one record, as far as they are asked for, also added to `taken`."""
    taken.append(line)
    yield line.decode("utf-8-sig", "surrogateescape")
    for more in lines:
        if more is not None:
            taken.append(more)
            yield more.decode("utf-8", "surrogateescape")
