"""Cases: an input and the output that is right for it, one JSON object a line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .errors import FormatError, OptionError, OutputError, listed
from .output import Labels, Output
from .rows.jsonl import read_jsonl
from .runner import check_text


@dataclass(frozen=True)
class Case:
    """One row `{"input": …, "output": …}` of a cases file, on that `line` of it if it is known.

    Rows that are to be ranked against each other have one `group`, such as a query's id; how good
    one is says its `grade`, 0 or more, or else its output.
    """

    input: str
    output: str
    line: int | None = field(default=None, compare=False)
    group: str | None = None
    grade: float | None = None

    def name(self, number: int) -> str:
        """Return what an error calls it: its line, or else its place `number` among others."""
        return f"row {number}" if self.line is None else f"line {self.line}"


def group_by_output(cases: Iterable[Case]) -> list[list[Case]]:
    """Return the cases of each output, in the order in which outputs first come."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.output, []).append(case)
    return list(groups.values())


def take_in_turn(groups: Iterable[Sequence[Case]], num: int) -> list[Case]:
    """Take so many cases, one of each group in turn, so that groups balance."""
    turns = zip_longest(*groups)
    return [case for turn in turns for case in turn if case is not None][:num]


def check_cases(cases: Iterable[Case]) -> None:
    """Raise OptionError, with its name, for a case that is no text or holds half a character."""
    for number, case in enumerate(cases, 1):
        try:
            for text in (case.input, case.output):
                check_text(text).encode()
        except (OptionError, UnicodeEncodeError) as error:
            reason = error if isinstance(error, OptionError) else "half a character (a surrogate)"
            raise OptionError(f"{case.name(number)}: {reason}") from error


def check_outputs(cases: Sequence[Case], output: Output) -> None:
    """Raise OptionError, with their names, for cases whose outputs are not of a type.

    They are labels, or JSON; whether it is of its schema, and text of its regex, nobody checks.
    """
    wrong = [
        f"{case.name(number)} ({case.output.strip()[:40]!r})"
        for number, case in enumerate(cases, 1)
        if not _is_of(output, case.output.strip())
    ]
    if not wrong:
        return
    allowed = "JSON"
    if isinstance(output, Labels):
        allowed = f"one of the labels {listed(output.labels, 12)}"
    raise OptionError(
        f"{len(wrong):,} of {len(cases):,} cases have an output that is not {allowed}: "
        f"{listed(wrong)}",
        hint="Correct them, or say what outputs may be: --labels, or --text for any.",
    )


def read_cases(path: Path) -> list[Case]:
    """Read a JSONL file of cases; FormatError names the line that is none.

    "group" and "grade" may be there, other keys are allowed, and blank lines are skipped.
    """
    return [_case(path, number, row) for number, row in read_jsonl(path, "cases")]


def _is_of(output: Output, text: str) -> bool:
    if isinstance(output, Labels):
        return text in output.places
    try:
        replace(output, build=None).parse(text)
    except OutputError:
        return False
    return True


def _case(path: Path, number: int, row: object) -> Case:
    where = f"{path}, line {number}"
    if isinstance(row, dict):
        text, output = row.get("input"), row.get("output")
        if isinstance(text, str) and isinstance(output, str):
            return Case(text, output, number, _group(where, row), _grade(where, row))
    raise FormatError(f'{where}: a case needs the strings "input" and "output"')


def _group(where: str, row: dict[str, Any]) -> str | None:
    group = row.get("group")
    if group is None or isinstance(group, str | int):
        return None if group is None else str(group)
    raise FormatError(f'{where}: "group" is {str(group)[:40]!r}, and no name or whole number')


def _grade(where: str, row: dict[str, Any]) -> float | None:
    grade = row.get("grade")
    if grade is None:
        return None
    with suppress(OverflowError):
        is_number = isinstance(grade, int | float) and not isinstance(grade, bool)
        if is_number and grade >= 0 and math.isfinite(grade):
            return float(grade)
    raise FormatError(f'{where}: "grade" is {str(grade)[:40]!r}, and no number of 0 or more')
