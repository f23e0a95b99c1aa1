"""Specs and where their programs go: what `compile` and `train` read and check first."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FormatError, NotFound, OptionError, listed
from ..output import TEXT, Labels, Output, Schema
from ..rows.jsonl import numbered_lines, read_jsonl
from ..spec_output import labels_in_spec
from ..store import is_name
from .voice import say


@dataclass(frozen=True)
class Wish:
    """A spec, what its program is to be called, and its pseudo-program if there is one."""

    spec: str
    name: str
    pseudo_program: str | None = None


def read_text(path: Path, *, strip: bool = True) -> str:
    """Read a text file, stripped; NotFound or FormatError if there is no text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 text") from error
    if not text.strip():
        raise FormatError(f"{path} is empty")
    return text.strip() if strip else text


def read_kinds(given: Iterable[str]) -> list[str]:
    """Return kinds of functions: as they are, or the words of `@FILE`; NotFound or FormatError."""
    kinds: list[str] = []
    for kind in given:
        kinds += read_text(Path(kind[1:])).split() if kind.startswith("@") else [kind]
    return kinds


def read_labels(given: str) -> list[str]:
    """Return labels: parted by commas, or the lines of `@FILE` that are not blank.

    OptionError for labels that are empty, or alike; NotFound or FormatError for the file.
    """
    where, labels = "", [label.strip() for label in given.split(",")]
    if given.startswith("@"):
        path = Path(given[1:])
        where = f"{path}: "
        labels = [line.strip() for _, line in numbered_lines(path, "labels")]
    try:
        return list(Labels(tuple(labels)).labels)
    except OptionError as error:
        raise OptionError(f"{where or '--labels: '}{error}") from error


def read_schema(path: Path) -> dict[str, Any]:
    """Return the JSON schema in a file; NotFound or FormatError, which names it, for none.

    OptionError for one that no output could have.
    """
    text = read_text(path)
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} holds no valid JSON: {error}") from error
    if not isinstance(schema, dict):
        raise FormatError(f"{path} holds no JSON schema: it is no object, {str(schema)[:40]!r}")
    from ..interpreter.engine.grammar import check_output

    try:
        check_output(Schema.of(schema))
    except OptionError as error:
        error.add_note(f"The schema is {path}.")
        raise
    return schema


def choose_output(
    declared: Output | None, spec: str, *, of: str = "the spec", silent: bool = False
) -> Output:
    """Return what a new program's outputs may be: as declared, or the labels that its spec names.

    Those are said, unless `silent`, to be `of` that spec.
    """
    if declared is not None:
        return declared
    found = labels_in_spec(spec)
    if found and not silent:
        say(f"labels from {of}: {listed(found.labels, 12)}")
    return found or TEXT


def read_wishes(files: Sequence[Path]) -> list[Wish]:
    """Read a spec from each text file, and from each row of each `.jsonl`.

    OptionError if two would get one name.
    """
    wishes = [wish for file in files for wish in _in_file(file)]
    names = [wish.name for wish in wishes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise OptionError(f"{len(twice)} names are given twice: {listed(twice)}")
    return wishes


def find_places(output: str | None, wishes: list[Wish], several: bool) -> dict[str, Path | None]:
    """Say where each program is written; None if it goes to the store alone.

    OptionError for names that the store does not take, or files that would be written twice.
    """
    if output is None:
        bad = [wish.name for wish in wishes if several and not is_name(wish.name)]
        if bad:
            raise OptionError(
                f"{len(bad)} names cannot name a program in the store: {listed(bad)}",
                hint="Give these rows other names, or write to a folder with -o.",
            )
        return dict.fromkeys((wish.name for wish in wishes), None)
    path = Path(output)
    if not (several or path.is_dir() or output.endswith("/")):
        return {wish.name: path for wish in wishes}
    if path.suffix == ".paw" or path.is_file():
        raise OptionError(f"several programs go to a folder, and {output} is a file's name")
    places = {wish.name: path / f"{wish.name.replace('/', '-')}.paw" for wish in wishes}
    # Not all disks tell A.paw from a.paw.
    same = [
        name
        for name, number in Counter(str(p).lower() for p in places.values()).items()
        if number > 1
    ]
    if same:
        raise OptionError(f"{len(same)} files would be written twice: {listed(same)}")
    return dict(places)


def choose_dtype(given: str | None, rank: int) -> str:
    """Return how A and B are stored; OptionError, before the work, if a rank cannot be so."""
    if given == "q4_0" and rank % 32:
        raise OptionError(
            f"q4_0 stores blocks of 32 along the rank, and {rank} is no multiple of 32",
            hint="Choose rank 32 or 64, or --adapter f16.",
        )
    return given or ("f16" if rank % 32 else "q4_0")


def check_writable(output: Path) -> None:
    """Raise OptionError, before the work and not after it, if a file cannot be written.

    A folder that is missing is made when the file is, but not its parents.
    """
    folder = output.parent if output.parent.exists() else output.parent.parent
    if output.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise OptionError(f"cannot write {output}: its folder is missing or read-only")


def _in_file(file: Path) -> Iterator[Wish]:
    if file.suffix != ".jsonl":
        yield Wish(read_text(file), file.stem)
        return
    for number, row in read_jsonl(file, "specs"):
        yield _make_wish(file, number, row)


def _make_wish(file: Path, number: int, row: object) -> Wish:
    where, name = f"{file}, line {number}", f"{file.stem}-{number}"
    keys = ("spec", "name", "pseudo_program")
    values = [row.get(key) if isinstance(row, dict) else None for key in keys]
    if not isinstance(values[0], str) or not all(isinstance(v, str | None) for v in values):
        raise FormatError(
            f'{where}: a row needs the string "spec"; "name" and "pseudo_program" may be strings'
        )
    return Wish(values[0], values[1] or name, values[2])
