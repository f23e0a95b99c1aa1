"""Where rows are written when all are done: a file, or a table of a SQLite file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from .suffixes import format_of as format_of_file

_MAX_NAME = 80  # of a table, in the name of a file


@dataclass(frozen=True)
class Table:
    """A table of a SQLite file."""

    path: Path
    name: str

    def __str__(self) -> str:
        return f"the table {self.name} of {self.path}"


Target = Path | Table
Seal = Callable[[Path, Target], None]  # makes the target of OUT.part, as a whole or not at all


def path_of(target: Target) -> Path:
    """Return the file that rows end in: where it is a link, the one it leads to."""
    path = target.path if isinstance(target, Table) else target
    return path.resolve() if path.is_symlink() else path


def part_of(target: Target) -> Path:
    """Return OUT.part, in which rows are kept until all are done: beside the file."""
    path = path_of(target)
    table = f".{_file_name(target.name)}" if isinstance(target, Table) else ""
    return path.with_name(f"{path.name}{table}.part")


def side_of(part: Path) -> Path:
    """Return OUT.part.json."""
    return part.with_name(f"{part.name}.json")


def format_of(target: Target | None) -> str | None:
    """Return the format that a target's name tells; OptionError for one that nobody writes."""
    return "sqlite" if isinstance(target, Table) else format_of_file(target)


def _file_name(table: str) -> str:
    """Return a table's name as a file's may be: of letters that disks take, and not too long."""
    name = quote(table, safe="", errors="replace")
    if len(name) <= _MAX_NAME:
        return name
    return f"{name[:_MAX_NAME]}-{hashlib.sha256(table.encode(errors='replace')).hexdigest()[:16]}"
