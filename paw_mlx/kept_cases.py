"""Cases kept with a program: what it shall answer, added as it is used, for `test` to check.

With a stored name they lie in one file, for all its versions; a program's file elsewhere carries
them in its meta.json. Whoever adds some at the same time as others loses none: the store's lock is
held from reading to writing. A case's number is its place, from 1.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from . import cases, formats, hub, store
from .cases import Case, check_cases, check_distinct, check_outputs, read_cases
from .errors import FieldError, FormatError, OptionError, listed
from .files import replacing
from .formats.untrusted import MAX_TEXT_BYTES
from .program import Program
from .progress import Progress, quiet
from .rows.formats import open_reader
from .rows.opening import open_source
from .rows.suffixes import format_of
from .words import counted


class Added(NamedTuple):
    """How many of the given cases are new, kept already, or replaced one with another output.

    `numbers` are the given cases' now, in their order; `before` are those that were replaced.
    """

    new: int
    same: int
    replaced: int
    numbers: list[int]
    before: list[Case]


def read(reference: str, *, offline: bool = False, progress: Progress = quiet) -> list[Case]:
    """Return the cases kept with `name` or `name@vN`, or carried by another program; [] if none.

    NotFound, or what fetching a program raises, if there is no such program; FormatError, with its
    place, for a case that is none.
    """
    path = hub.resolve_program(reference, offline=offline, progress=progress)
    if store.name_of(path):
        return store.cases_of(path, {})
    return store.cases_of(path, formats.load(path).meta)


def require(reference: str, *, offline: bool = False, progress: Progress = quiet) -> list[Case]:
    """Return the cases as `read` does; OptionError if there are none."""
    found = read(reference, offline=offline, progress=progress)
    if not found:
        raise OptionError(
            f"no cases are kept with {reference}",
            hint="Name a file of cases, or keep some: `paw-mlx case add NAME INPUT EXPECTED`.",
        )
    return found


def add(name: str, given: Sequence[Case]) -> Added:
    """Keep cases with a stored program; one with an input that has a case already replaces it.

    OptionError, before anything is written, for cases that are no text, that share an input, or
    whose outputs are not of the current version's type, and where they are too many; NotFound
    without such a program, FormatError if the file of its cases is damaged, DiskError for the disk.
    """
    _check_stored(name)
    check_cases(given)
    check_distinct(given)
    check_outputs(given, formats.load(store.find(name)).output, hint="Nothing was kept.")
    with store.lock():
        file = store.cases_file(name)
        kept = cases.read_kept(file)
        added = _merge(kept, given)
        if added.new or added.replaced:
            _write(file, kept)
    return added


def remove(name: str, numbers: Collection[int]) -> list[Case]:
    """Remove cases of a stored program by their numbers, and return them.

    OptionError, and nothing is removed, if one of them is no case's; else as `add`.
    """
    _check_stored(name)
    with store.lock():
        file = store.cases_file(name)
        kept = cases.read_kept(file)
        if wrong := sorted({*numbers} - {*range(1, len(kept) + 1)}):
            raise OptionError(
                f"{name} has {counted(len(kept), 'case')}, and no case {listed(wrong)}",
                hint=f"`paw-mlx case ls {name}` lists them; nothing was removed.",
            )
        removed = [kept[number - 1] for number in sorted({*numbers})]
        left = [case for number, case in enumerate(kept, 1) if number not in numbers]
        if left:
            _write(file, left)
        else:
            file.unlink(missing_ok=True)
    return removed


def read_file(path: Path) -> list[Case]:
    """Read cases of JSON lines, or of a csv whose columns are `input` and `output`.

    FormatError or FieldError names what is no case; NotFound, or OptionError for another format.
    """
    if format_of(path) != "csv":
        return read_cases(path)
    found = []
    with open_source([path]) as source:
        for row in open_reader("csv", source, "input"):
            assert row
            if row.error:
                raise FormatError(f"{path}, row {row.number}: {row.error}")
            if "output" not in row.fields:
                raise FieldError(f"{path} has no column 'output': it has {listed([*row.fields])}")
            if not row.fields["output"]:
                raise FormatError(f"{path}, row {row.number} has no output")
            found.append(Case(row.text, row.fields["output"]))
    if not found:
        raise FormatError(f"{path} holds no cases")
    return found


def export(program: Program, path: Path) -> Program:
    """Return the program of a file as it may leave the store: it carries the cases of its name.

    One that is not in the store stays as it is. OptionError if they are too many to be carried.
    """
    if not store.name_of(path):
        return program
    found = store.cases_of(path, program.meta)
    meta = dict(cases.without_cases(program).meta)
    if found:
        meta[cases.KEY] = [case.record() for case in found]
    num_bytes = len(json.dumps(meta, ensure_ascii=False, indent=2).encode())
    if num_bytes > MAX_TEXT_BYTES:
        raise OptionError(
            f"with its {counted(len(found), 'case')} the program's meta.json would have "
            f"{num_bytes:,} bytes (limit {MAX_TEXT_BYTES:,})",
            hint="Leave them behind with --no-cases, or remove some: `paw-mlx case rm`.",
        )
    return replace(program, meta=meta)


def _merge(kept: list[Case], given: Sequence[Case]) -> Added:
    """Put cases among those kept, in place."""
    places = {case.input: place for place, case in enumerate(kept)}
    numbers, same, before = [], 0, []
    for case in given:
        place = places.get(case.input)
        if place is None:
            kept.append(case)
            numbers.append(len(kept))
            continue
        numbers.append(place + 1)
        if _alike(kept[place], case):
            same += 1
        else:
            before.append(kept[place])
            kept[place] = case
    return Added(len(given) - same - len(before), same, len(before), numbers, before)


def _alike(one: Case, other: Case) -> bool:
    """Whether two cases of one input ask for the same."""
    return replace(one, output=one.output.strip()) == replace(other, output=other.output.strip())


def _write(file: Path, kept: Sequence[Case]) -> None:
    data = cases.write_kept(kept)
    with replacing(file) as temporary:
        temporary.write_bytes(data)


def _check_stored(name: str) -> None:
    """Raise OptionError for what names no stored program, or NotFound if there is none such."""
    if not store.is_reference(name):
        raise OptionError(
            f"{name!r} is no name of a stored program, and cases are kept with those alone",
            hint="Store a file first: `paw-mlx pull FILE --as NAME`.",
        )
    store.find(name)
