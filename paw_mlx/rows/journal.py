"""Rows on their way to a table: JSON arrays in OUT.part, until all are there.

What each holds are its own fields, in the order of the columns, and then what it gained.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PawError
from ..runner import Result
from .jsonl import as_base64, said
from .row import INPUT, Added, Row, whole_lines
from .target import Seal

_BYTES = "base64"  # the one name of an object that stands for bytes: no other objects are written


class Gain(NamedTuple):
    """What a row of a table gains: None for an output that was not said, and for what is not."""

    output: str | None
    probability: float | None
    error: str | None  # "code: message"

    @classmethod
    def of(cls, answer: Result | PawError) -> Gain:
        """Take what became of a row."""
        if isinstance(answer, PawError):
            return cls(None, None, f"{type(answer).__name__}: {answer}")
        probability = answer.decision.probability if answer.decision else None
        return cls(said(answer), probability, None)


class JournalWriter:
    """Arrays of numbers, texts, truth values, null and bytes; whatever else a field is, as JSON.

    `columns` are those of the table: the rows' own, then the output (null where none was said),
    its label's probability if wanted, the error ("code: message", or null), the row's file and its
    number.
    """

    head = b""
    copies = False

    def __init__(self, own: Sequence[str], added: Added, seal: Seal) -> None:
        self._own, self._added = own, added
        self.seal: Seal | None = seal
        self.gained = added.columns
        self.columns = [*own, *self.gained]

    def row(self, row: Row, answer: Result | PawError) -> bytes:
        """Write a row; one that failed and has other columns stays whole, in the first."""
        own = [row.fields.get(name) for name in self._own]
        if self._own and row.fields.keys() - {*self._own}:
            text = row.text if row.fields == {INPUT: row.text} else row.raw
            own = [text, *[None] * (len(own) - 1)]
        values = [*map(_simple, own), *self._gain(row, answer)]
        return json.dumps(values).encode() + b"\n"

    def _gain(self, row: Row, answer: Result | PawError) -> Iterator[Any]:
        """Give what a row gained, in the order of its columns."""
        gain = Gain.of(answer)
        yield gain.output
        if self._added.probability:
            yield gain.probability
        yield gain.error
        if self._added.file:
            yield row.file
        if self._added.row:
            yield row.number

    def whole(self, lines: Iterator[bytes]) -> Iterator[tuple[int, int]]:
        """Find the lines that have an end; unordered rows say their numbers."""
        for number, line in whole_lines(lines):
            yield len(line), json.loads(line)[-1] if self._added.row else number


def read_journal(path: Path) -> Iterator[list[Any]]:
    """Read the rows of a journal, bytes as bytes."""
    with path.open("rb") as lines:
        for line in lines:
            yield [_restored(value) for value in json.loads(line)]


def _simple(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_BYTES: as_base64(value)}
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _restored(value: Any) -> Any:
    return b64decode(value[_BYTES]) if isinstance(value, dict) else value
