"""Specs and where their programs go: what `compile` and `train` read and check first."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import FormatError, NotFound, OptionError, listed
from ..rows.jsonl import read_jsonl


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


def read_wishes(files: Sequence[Path]) -> list[Wish]:
    """Read a spec from each text file, and from each row of each `.jsonl`.

    OptionError if two would get one name.
    """
    wishes = [wish for file in files for wish in _in_file(file)]
    names = [wish.name for wish in wishes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise OptionError(f"{len(twice)} names are given twice: {listed(twice)}")
    return wishes


def check_blocks(dtype: str, rank: int) -> None:
    """Raise OptionError, before the work, if a rank cannot be stored as `dtype`."""
    if dtype == "q4_0" and rank % 32:
        raise OptionError(
            f"q4_0 stores blocks of 32 along the rank, and {rank} is no multiple of 32",
            hint="Choose rank 32 or 64, or --adapter f16.",
        )


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
