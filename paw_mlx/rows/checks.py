"""What rows cannot be written to, and what cannot be added to them: said before one is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..errors import FieldError, OptionError
from .source import Source
from .target import Target, part_of, path_of


def check_target(target: Target, source: Source) -> None:
    """Raise OptionError for what rows cannot be written to: no file, or their own source."""
    path, part = path_of(target), part_of(target)
    if path.exists() and not path.is_file():
        raise OptionError(f"cannot write {path}: it is no regular file")
    for one in (part, path) if isinstance(target, Path) else (part,):
        if one.exists() and is_among(one.stat(), source):
            raise OptionError(f"{one} is the input, too", hint="Write to another file.")


def is_among(info: os.stat_result, source: Source) -> bool:
    """Return whether a file is one of those that are read."""
    return any(os.path.samestat(info, one) for one in source.stats)


def check_names(written: str, fields: Mapping[str, str | None], unordered: bool) -> None:
    """Raise FieldError for names of new fields that cannot be, by the options that give them."""
    if written == "lines" and unordered:
        raise FieldError("--unordered numbers the rows, and lines have no place for it")
    taken = {"error", *(["row"] if unordered else [])}
    if not fields["--output-field"]:
        taken.add("output")
    for option, name in fields.items():
        if name is None:
            continue
        if written == "lines":
            raise FieldError(f"{option} names a field, and lines have none")
        if name in taken:
            raise FieldError(f"{option} {name}: another field has that name")
        taken.add(name)
