"""Cases: an input and the output that is right for it, one JSON object a line."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .errors import FormatError
from .rows.jsonl import read_jsonl


class Case(NamedTuple):
    """One row `{"input": …, "output": …}` of a cases file."""

    input: str
    output: str


def read_cases(path: Path) -> list[Case]:
    """Read a JSONL file of cases; FormatError names the line that is none.

    Other keys are allowed, and blank lines are skipped.
    """
    return [_case(path, number, row) for number, row in read_jsonl(path, "cases")]


def _case(path: Path, number: int, row: object) -> Case:
    if isinstance(row, dict):
        text, output = row.get("input"), row.get("output")
        if isinstance(text, str) and isinstance(output, str):
            return Case(text, output)
    raise FormatError(f'{path}, line {number}: a case needs the strings "input" and "output"')
