"""Cases: an input and the output that is right for it, one JSON object a line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .errors import FormatError, OptionError
from .rows.jsonl import read_jsonl
from .runner import check_text


@dataclass(frozen=True)
class Case:
    """One row `{"input": …, "output": …}` of a cases file, on that `line` of it if it is known."""

    input: str
    output: str
    line: int | None = field(default=None, compare=False)

    def name(self, number: int) -> str:
        """Return what an error calls it: its line, or else its place `number` among others."""
        return f"row {number}" if self.line is None else f"line {self.line}"


def check_cases(cases: Iterable[Case]) -> None:
    """Raise OptionError, with its name, for a case that is no text or holds half a character."""
    for number, case in enumerate(cases, 1):
        try:
            for text in (case.input, case.output):
                check_text(text).encode()
        except (OptionError, UnicodeEncodeError) as error:
            reason = error if isinstance(error, OptionError) else "half a character (a surrogate)"
            raise OptionError(f"{case.name(number)}: {reason}") from error


def read_cases(path: Path) -> list[Case]:
    """Read a JSONL file of cases; FormatError names the line that is none.

    Other keys are allowed, and blank lines are skipped.
    """
    return [_case(path, number, row) for number, row in read_jsonl(path, "cases")]


def _case(path: Path, number: int, row: object) -> Case:
    if isinstance(row, dict):
        text, output = row.get("input"), row.get("output")
        if isinstance(text, str) and isinstance(output, str):
            return Case(text, output, number)
    raise FormatError(f'{path}, line {number}: a case needs the strings "input" and "output"')
