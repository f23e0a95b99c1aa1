"""Cases: an input and the output that is right for it, one JSON object a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from .errors import FormatError, NotFound


class Case(NamedTuple):
    """One row `{"input": …, "output": …}` of a cases file."""

    input: str
    output: str


def read_cases(path: Path) -> list[Case]:
    """Read a JSONL file of cases; FormatError names the line that is none. Other keys are
    allowed, and blank lines are skipped."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {path}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"cannot read {path} as UTF-8 text: {error}") from error
    cases = [_case(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not cases:
        raise FormatError(f"{path} holds no cases")
    return cases


def _case(path: Path, number: int, line: str) -> Case:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}, line {number}: no valid JSON ({error})") from error
    if not isinstance(row, dict) or not all(
        isinstance(row.get(key), str) for key in ("input", "output")
    ):
        raise FormatError(
            f'{path}, line {number}: a case needs the strings "input" and "output"',
        )
    return Case(row["input"], row["output"])
