"""Cases: an input and the output that is right for it, one JSON object a line.

A file of cases is somebody's own. Those kept with a program lie in a file of the store, and travel
in the meta.json of the program's file; both are read with a limit, and may hold none.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .errors import FormatError, NotFound, OptionError, OutputError, listed
from .files import exists, read_errors
from .formats.untrusted import json_object, read_bytes, shown
from .output import Labels, Output
from .program import Program
from .rows.jsonl import read_jsonl
from .runner import check_text

KEY = "cases"  # under which a program's meta.json carries its cases
MAX_KEPT_BYTES = 64 << 20
_BOM = b"\xef\xbb\xbf"


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

    def record(self) -> dict[str, Any]:
        """Return it as a row of JSON, which says nothing of a group or grade that is not there."""
        more = {"group": self.group, "grade": self.grade}
        told = {name: value for name, value in more.items() if value is not None}
        return {"input": self.input, "output": self.output, **told}


def group_by_output(cases: Iterable[Case]) -> list[list[Case]]:
    """Return the cases of each output, in the order in which outputs first come."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.output, []).append(case)
    return list(groups.values())


def deal(cases: Sequence[Case], num: int, seed: int) -> list[list[Case]]:
    """Deal cases into so many parts, each with its share of every output."""
    groups = group_by_output(random.Random(seed).sample(cases, len(cases)))
    in_order = [case for group in groups for case in group]
    return [in_order[start::num] for start in range(num)]


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


def check_distinct(cases: Iterable[Case]) -> None:
    """Raise OptionError, with their names, for cases whose input another one has."""
    first: dict[str, tuple[str, str]] = {}
    wrong = []
    for number, case in enumerate(cases, 1):
        name, output = case.name(number), case.output.strip()
        other, said = first.setdefault(case.input, (name, output))
        if other != name:
            differs = "repeats" if said == output else "disagrees with"
            wrong.append(f"{name} {differs} {other}")
    if wrong:
        raise OptionError(
            f"{len(wrong):,} of these cases have the input of another: {listed(wrong)}",
            hint="Leave one case of each input; nothing was kept.",
        )


def check_outputs(
    cases: Sequence[Case],
    output: Output,
    hint: str = "Correct them, or say what outputs may be: --labels, or --text for any.",
) -> None:
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
        hint=hint,
    )


def read_cases(path: Path) -> list[Case]:
    """Read a JSONL file of cases; FormatError names the line that is none.

    "group" and "grade" may be there, other keys are allowed, and blank lines are skipped.
    """
    rows = read_jsonl(path, "cases")
    return [_case(f"{path}, line {number}", row, number) for number, row in rows]


def read_kept(path: Path) -> list[Case]:
    """Read a file of cases kept with a program, [] without one.

    FormatError names the line that is no case, or says the size of a file beyond the limit;
    DiskError if it may not be read.
    """
    try:
        lines = read_bytes(path, MAX_KEPT_BYTES).split(b"\n")
    except NotFound:
        return []
    try:
        return [
            _case(where, json_object(line.removeprefix(_BOM), where))
            for where, line in ((f"{path}, line {n}", line) for n, line in enumerate(lines, 1))
            if line.strip()
        ]
    except FormatError as error:
        error.add_note("Correct or remove that line with an editor; the file is as it was.")
        raise


def without_cases(program: Program) -> Program:
    """Return a program that carries no cases."""
    meta = {key: value for key, value in program.meta.items() if key != KEY}
    return replace(program, meta=meta)


def count_kept(path: Path) -> int:
    """Count the cases in a file of kept ones by its lines, damaged or not."""
    if not exists(path):
        return 0
    with read_errors(path), path.open("rb") as file:
        return sum(not line.isspace() for line in file)


def fill_in(path: Path, cases: Sequence[Case]) -> bytes | None:
    """Return what a file of kept cases holds with those whose inputs are new to it.

    None if none is. FormatError if the file is damaged, OptionError if it would be too long.
    """
    kept = read_kept(path) if cases else []
    known = {case.input for case in kept}
    new = {case.input: case for case in cases if case.input not in known}
    return write_kept([*kept, *new.values()]) if new else None


def write_kept(cases: Iterable[Case]) -> bytes:
    """Return the bytes of a file that `read_kept` reads; OptionError beyond its limit."""
    rows = [json.dumps(case.record(), ensure_ascii=False).encode() + b"\n" for case in cases]
    num_bytes = sum(map(len, rows))
    if num_bytes > MAX_KEPT_BYTES:
        raise OptionError(
            f"{len(rows):,} cases take {num_bytes:,} bytes, and those kept with a program at most "
            f"{MAX_KEPT_BYTES:,}",
            hint="Leave some in a file of their own, and name it: `paw-mlx test NAME FILE`.",
        )
    return b"".join(rows)


def carried(meta: Mapping[str, Any], where: str) -> list[Case]:
    """Return the cases that a program's meta.json carries; FormatError, after `where`, for others.

    A case that is none is named by its number.
    """
    rows = meta.get(KEY, [])
    where = f'{where}: "{KEY}" of its meta.json'
    try:
        if not isinstance(rows, list):
            raise FormatError(f"{where} is {shown(rows)}, and no list")
        return [_case(f"{where}, case {number}", row) for number, row in enumerate(rows, 1)]
    except FormatError as error:
        error.add_note("Leave them behind: `paw-mlx convert FILE OUT.paw --no-cases`.")
        raise


def _is_of(output: Output, text: str) -> bool:
    if isinstance(output, Labels):
        return text in output.places
    try:
        replace(output, build=None).parse(text)
    except OutputError:
        return False
    return True


def _case(where: str, row: object, line: int | None = None) -> Case:
    if isinstance(row, dict):
        text, output = row.get("input"), row.get("output")
        if isinstance(text, str) and isinstance(output, str):
            return Case(text, output, line, _group(where, row), _grade(where, row))
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
