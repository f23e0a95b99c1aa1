"""What a program is trained on again: no contradictions, and what it gets wrong more often."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..cases import Case, check_cases
from ..errors import FormatError
from ..files import replacing

_MOST_DRAWN = 3  # times as often as others, what is wrong


@dataclass(frozen=True)
class Rows:
    """What to train on, each input once.

    `contradictory` names what is left out, by its place among cases and pairs (in a file, its
    line): rows of one input and several outputs. So does `repeated` rows that were there already.
    """

    cases: list[Case]
    pairs: list[Case]
    contradictory: list[str]
    repeated: list[str]


@dataclass(frozen=True)
class Begun:
    """What a tuning began from: a version of the stored program, and the rows as they were."""

    version: int
    cases: list[Case]
    pairs: list[Case]

    def keep(self, folder: Path) -> Begun:
        """Return what the tuning in a folder began from: what is kept there, or else this, kept."""
        file = folder / "begun.json"
        if file.exists():
            return _read(file)
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return self


def _read(file: Path) -> Begun:
    try:
        record = json.loads(file.read_bytes())
        rows = ([Case(**row) for row in record[name]] for name in ("cases", "pairs"))
        return Begun(int(record["version"]), *rows)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise FormatError(f"{file} is damaged: {error}") from error


def choose_rows(cases: Sequence[Case], pairs: Sequence[Case]) -> Rows:
    """Leave out what contradicts itself, and what repeats; a pair gives way to a case.

    OptionError for a row that is no text.
    """
    check_cases(cases)
    check_cases(pairs)
    inputs = {case.input.strip() for case in cases}
    others = [(n, pair) for n, pair in enumerate(pairs, 1) if pair.input.strip() not in inputs]
    own, wrong, repeated = _consistent(list(enumerate(cases, 1)))
    more, wrong_too, repeated_too = _consistent(others, " of the pairs")
    known = [
        f"{pair.name(number)} of the pairs"
        for number, pair in enumerate(pairs, 1)
        if pair.input.strip() in inputs
    ]
    return Rows(own, more, wrong + wrong_too, repeated + known + repeated_too)


def _consistent(
    numbered: Sequence[tuple[int, Case]], whose: str = ""
) -> tuple[list[Case], list[str], list[str]]:
    """Return the first row of each input, and the names of those that contradict, or repeat one."""
    rows: dict[str, list[tuple[int, Case]]] = {}
    for number, row in numbered:
        rows.setdefault(row.input.strip(), []).append((number, row))
    kept, wrong, repeated = list[Case](), list[str](), list[str]()
    for found in rows.values():
        if len({row.output.strip() for _, row in found}) == 1:
            kept.append(found[0][1])
            repeated += [f"{row.name(number)}{whose}" for number, row in found[1:]]
        else:
            wrong += [f"{row.name(number)}{whose}" for number, row in found]
    return kept, wrong, repeated


def case_key(case: Case) -> str:
    """Return what the record of a training calls a row: 8 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(f"{case.input}\0{case.output}".encode()).hexdigest()[:8]


def replay(rows: Sequence[Case], wrong: Collection[Case]) -> list[Case]:
    """Return the rows, and again those that are wrong, so that they are about half of it.

    Three times at most: some of what looks wrong has a wrong label.
    """
    again = [row for row in rows if row in wrong]
    times = (len(rows) - len(again)) // max(1, len(again))
    return [*rows, *again * (min(max(times, 1), _MOST_DRAWN) - 1)]
