"""Cases: an input and the output that is right for it, one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from .errors import FormatError, NotFound


class Case(NamedTuple):
    """One row `{"input": …, "output": …}` of a cases file."""

    input: str
    output: str


def read_cases(path: Path) -> list[Case]:
    """Read a JSONL file of cases; FormatError names the line that is none. Other keys are
    allowed, and blank lines are skipped."""
    return [_case(path, number, line) for number, line in numbered_lines(path, "cases")]


def numbered_lines(path: Path, what: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank; NotFound, or FormatError if none is there."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"cannot read {path} as UTF-8 text: {error}") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise FormatError(f"{path} holds no {what}")
    return numbered


def json_line(path: Path, number: int, line: str) -> Any:
    """The value of one line of a JSONL file; FormatError names the line."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}, line {number}: no valid JSON ({error})") from error


def _case(path: Path, number: int, line: str) -> Case:
    row = json_line(path, number, line)
    if not isinstance(row, dict) or not all(
        isinstance(row.get(key), str) for key in ("input", "output")
    ):
        raise FormatError(
            f'{path}, line {number}: a case needs the strings "input" and "output"',
        )
    return Case(row["input"], row["output"])
