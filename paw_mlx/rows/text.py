"""Lines of text: every line is an input, an empty one too, and every output is a line."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import PawError
from ..runner import Result
from .row import INPUT, Row, whole_lines
from .source import Input, decode_line
from .target import Seal


class LinesReader:
    """Every line is an input."""

    def __init__(self, source: Input) -> None:
        self.columns, self.num_rows, self._lines = [INPUT], 0, source.lines

    def __iter__(self) -> Iterator[Row | None]:
        for line in self._lines:
            if line is None:
                yield None
                continue
            self.num_rows += 1
            text, error = decode_line(line)
            yield Row(self.num_rows, text, error, {INPUT: text}, text)


class LinesWriter:
    r"""Outputs alone, each on a line of its own; an error is an empty line.

    A break inside an output becomes \n, and is then like a \n that the output spells: where that
    matters, write jsonl.
    """

    head = b""
    copies = False

    def __init__(self) -> None:
        self.seal: Seal | None = None

    def row(self, row: Row, answer: Result | PawError) -> bytes:
        """Write an output as one line."""
        text = "" if isinstance(answer, PawError) else answer.text
        return text.replace("\r", "\\r").replace("\n", "\\n").encode() + b"\n"

    def whole(self, lines: Iterator[bytes]) -> Iterator[tuple[int, int]]:
        """Find the lines that have an end."""
        for number, line in whole_lines(lines):
            yield len(line), number
